"""`speechscale eval prepare`: the labelled manifest and the shards of a released benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import (
    BatchSeconds,
    Codebook,
    CorpusRoot,
    Device,
    EncoderPrecision,
    EncodingWorkers,
    EngineName,
    Minutes,
    RayAddress,
)


def prepare(
    path: Annotated[Path, typer.Argument(help="The benchmark as downloaded, a folder or a file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for manifest.jsonl, and for units with a codebook.")
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
    root: CorpusRoot = None,
    subfolders: Annotated[
        str | None,
        typer.Option(
            help="What the folders of a slamkit tree are: voice, phenomenon or condition.  "
            "[default: voice for stories, else phenomenon]"
        ),
    ] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Leave out pairs that lack a member or cannot be used.")
    ] = False,
    code_book: Codebook | None = None,
    minutes: Minutes = 60.0,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: EncodingWorkers = None,
    device: Device = "auto",
    precision: EncoderPrecision = "float32",
    batch_seconds: BatchSeconds = 60.0,
) -> None:
    """Prepare a zero-shot benchmark: label every recording with its item, its pair and whether it is correct.

    The members of a pair are joined by the labels or names of the release, never by the order of files or rows. An item
    with a missing member, a missing or broken file, or an invalid label stops the command, which names it;
    OUT/manifest.skips.jsonl lists all of them. Counts that differ from the official release are noted.

    With --code-book, OUT/units holds the shards for `eval run`, made as by `speechscale encode`.

    Examples:

        speechscale eval prepare ~/zr-data/datasets/sLM21-dataset -o slm21 --code-book code_book.safetensors

        speechscale eval prepare tStoryCloze -o tsc

        speechscale eval prepare reference/swuggy_inter --layout slamkit -o swuggy
    """
    from speechscale.jobs.prepare_benchmark import BenchmarkOptions, EncodingOptions, prepare_benchmark

    options = BenchmarkOptions(
        layout=layout, task=task, root=root, subfolders=subfolders, incomplete=incomplete
    )
    encoding = None
    if code_book is not None:
        encoding = EncodingOptions(
            codebook=code_book,
            shard_seconds=60 * minutes,
            engine=engine,
            ray_address=ray_address,
            workers=workers,
            device=device,
            precision=precision,
            batch_seconds=batch_seconds,
        )
    prepare_benchmark(path, out, options, encoding, typer.echo)
