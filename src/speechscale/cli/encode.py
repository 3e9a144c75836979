"""`speechscale encode`: a manifest and a code book in, shards of units out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

CodeBook = Annotated[Path, typer.Option(help="Code book from `speechscale kmeans`.")]
Minutes = Annotated[float, typer.Option(min=0.01, help="Audio per shard, the unit of work.")]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a cluster.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Of the cluster.  [default: RAY_ADDRESS, else a Ray started here]")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes.  [default: one a GPU if the encoder uses it, or core]"),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where a neural encoder computes.")]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="bfloat16 is faster and changes a few units; the share is measured and printed."),
]
BatchSeconds = Annotated[
    float, typer.Option(min=1.0, help="Audio in one pass of a neural encoder; more for a large GPU.")
]


def encode(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the speech to encode.")],
    code_book: CodeBook,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of shards; shards already there are kept.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="What audio paths are relative to.  [default: the manifest's folder]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.  [default: all]")] = None,
    minutes: Minutes = 60.0,
    status: Annotated[
        bool, typer.Option("--status", help="Start nothing: say what is done, skipped and left.")
    ] = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_seconds: BatchSeconds = 60.0,
) -> None:
    """Turn speech into collapsed units, packed in sealed shards. Stop it at any time and run it again to go on.

    On a cluster, every machine needs the same installation and the same files under the same paths.

    Example:

        speechscale encode tales/manifest.jsonl --code-book code_book.safetensors -o shards
    """
    from speechscale.compute import ComputeOptions
    from speechscale.jobs.encode import compare_precision, encode_all, encoding_status
    from speechscale.speech.waveforms import load_waveforms
    from speechscale.units.encode import plan_shards
    from speechscale.units.precision_check import PrecisionTask
    from speechscale.workers.choose import choose_backend

    computing = ComputeOptions(device, precision, batch_seconds)
    root = root or manifest.parent
    tasks = plan_shards(
        manifest, root, code_book, out, load_waveforms, seconds=60 * minutes, split=split, computing=computing
    )
    if status:
        typer.echo(encoding_status(tasks))
        return
    if precision != "float32":
        typer.echo(
            compare_precision(PrecisionTask(manifest, root, code_book, load_waveforms, computing, split))
        )
    typer.echo(f"{out}: {encode_all(tasks, choose_backend(engine, workers, ray_address))}")
