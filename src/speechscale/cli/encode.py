"""`speechscale encode`: encodes the speech of a manifest to shards of units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import (
    BatchSeconds,
    Codebook,
    Device,
    EncoderPrecision,
    EncodingWorkers,
    EngineName,
    ManifestRoot,
    Minutes,
    RayAddress,
)


def encode(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the speech to encode.")],
    codebook: Codebook,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of shards; shards already there are kept.")
    ],
    root: ManifestRoot = None,
    split: Annotated[str | None, typer.Option(help="Only this split.  [default: all]")] = None,
    minutes: Minutes = 60.0,
    status: Annotated[
        bool, typer.Option("--status", help="Print what is done, skipped and left, and encode nothing.")
    ] = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: EncodingWorkers = None,
    device: Device = "auto",
    precision: EncoderPrecision = "float32",
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
