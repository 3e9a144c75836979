"""`speechscale encode`: encodes the speech of a manifest to shards of units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Codebook = Annotated[Path, typer.Option("--code-book", help="Codebook from `speechscale kmeans`.")]
Minutes = Annotated[float, typer.Option(min=0.01, help="Audio per shard, which is the unit of work.")]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Address of the cluster.  [default: RAY_ADDRESS, else a local Ray is started]"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Worker processes.  [default: one per GPU if the encoder uses GPUs, else one per core]"
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device of a neural encoder.")]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="bfloat16 is faster and changes a few units; the share is measured and printed."),
]
BatchSeconds = Annotated[
    float,
    typer.Option(min=1.0, help="Seconds of audio in one batch of a neural encoder; more for a large GPU."),
]


def encode(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the speech to encode.")],
    codebook: Codebook,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of shards; shards already there are kept.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="What audio paths are relative to.  [default: the manifest's folder]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.  [default: all]")] = None,
    minutes: Minutes = 60.0,
    status: Annotated[
        bool, typer.Option("--status", help="Print what is done, skipped and left, and encode nothing.")
    ] = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_seconds: BatchSeconds = 60.0,
) -> None:
    """Encode speech to collapsed units in sealed shards.

    The command can be stopped at any time; run again, it continues. Every machine of a cluster needs the
    same installation and the same files under the same paths.

    Example:

        speechscale encode tales/manifest.jsonl --code-book code_book.safetensors -o shards
    """
    from speechscale.compute import ComputeOptions
    from speechscale.jobs.encode import EncodingJob, encode_manifest, encoding_status
    from speechscale.workers.choose import choose_backend

    job = EncodingJob(
        manifest=manifest,
        codebook=codebook,
        out=out,
        root=root,
        split=split,
        shard_seconds=60 * minutes,
        compute=ComputeOptions(device, precision, batch_seconds),
    )
    if status:
        typer.echo(encoding_status(job.tasks()))
        return
    typer.echo(f"{out}: {encode_manifest(job, choose_backend(engine, workers, ray_address), typer.echo)}")
