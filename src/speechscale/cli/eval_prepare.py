"""`speechscale eval prepare`: a benchmark as it is released in, its labelled manifest and shards out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.encode import (
    BatchSeconds,
    Codebook,
    Device,
    EngineName,
    Minutes,
    Precision,
    RayAddress,
    Workers,
    encode,
)


def prepare(
    path: Annotated[Path, typer.Argument(help="The benchmark as it was downloaded: a folder, or a file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for manifest.jsonl, and for units with a code book.")
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            help="zerospeech, storycloze, parquet, salmon, slamkit, jsonl or slm.  [default: by the path]"
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="swuggy, sblimp, sstorycloze, tstorycloze or another.  [default: by folder names]"),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="What audio paths are relative to and may not leave.  [default: PATH's folder]"),
    ] = None,
    subfolders: Annotated[
        str | None,
        typer.Option(
            help="What the folders of a slamkit tree are: voice, phenomenon or condition.  "
            "[default: voice for stories, else phenomenon]"
        ),
    ] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Leave out items that lack a member or cannot be used.")
    ] = False,
    code_book: Codebook | None = None,
    minutes: Minutes = 60.0,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_seconds: BatchSeconds = 60.0,
) -> None:
    """Lay out a zero-shot benchmark: every recording labelled with its item, its pair and whether it is the right one.

    Both members of a pair are joined by what the release says of them, never by the order of files or rows. An item
    without its twin, a file that is missing or broken, or a label that is none stops the command, which names it;
    OUT/manifest.skips.jsonl lists all of them. What differs in number from the official release is told.

    With --code-book, OUT/units holds the shards for `eval run`, made as by `speechscale encode`.

    Examples:

        speechscale eval prepare ~/zr-data/datasets/sLM21-dataset -o slm21 --code-book code_book.safetensors

        speechscale eval prepare tStoryCloze -o tsc

        speechscale eval prepare reference/swuggy_inter --layout slamkit -o swuggy
    """
    from speechscale.datasets.benchmarks import open_benchmark
    from speechscale.datasets.benchmarks.listing import prepare_benchmark
    from speechscale.workers.progress import spinner

    benchmark = open_benchmark(path, layout, task=task, root=root, subfolders=subfolders)
    with spinner("reading the benchmark"):
        prepared = prepare_benchmark(benchmark, out, incomplete=incomplete)
    typer.echo(f"{prepared.manifest}: {prepared} ({benchmark.layout} layout).")
    for note in prepared.notes:
        typer.echo(f"Note: {note}.")
    if code_book is None:
        typer.echo(
            f"Next: speechscale encode {prepared.manifest} --root {benchmark.root} --code-book … -o {out / 'units'}"
        )
        return
    encode(
        prepared.manifest,
        code_book,
        out / "units",
        root=benchmark.root,
        minutes=minutes,
        engine=engine,
        ray_address=ray_address,
        workers=workers,
        device=device,
        precision=precision,
        batch_seconds=batch_seconds,
    )
