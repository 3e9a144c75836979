"""Preparation of a released benchmark: its labelled manifest and, with a codebook, its shards of units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speechscale.compute import ComputeOptions, Device
from speechscale.datasets.benchmarks import open_benchmark
from speechscale.datasets.benchmarks.benchmark_manifest import write_benchmark_manifest
from speechscale.jobs.encode import EncodingJob, encode_manifest
from speechscale.workers.choose import choose_backend
from speechscale.workers.progress import spinner


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """How a benchmark is read; None derives an option from the path.

    Attributes:
        layout: a key of `BENCHMARK_LAYOUTS`.
        task: name of the benchmark, where its layout does not state it.
        root: folder that audio paths are relative to.
        subfolders: what the folders of a slamkit tree are: "voice", "phenomenon" or "condition".
        incomplete: leave out pairs that cannot be used, instead of stopping.
    """

    layout: str | None = None
    task: str | None = None
    root: Path | None = None
    subfolders: str | None = None
    incomplete: bool = False


@dataclass(frozen=True, kw_only=True)
class EncodingOptions:
    """How the recordings of a benchmark are encoded.

    Attributes:
        codebook: file of the codebook, which names the encoder.
        shard_seconds: duration of the audio of one shard, approximately.
        engine: name of the backend, "local" or "ray".
        ray_address: of a Ray cluster.
        workers: number of worker processes; by default one per core, or one per GPU.
        device: where a neural encoder computes.
        precision: of a neural encoder.
        batch_seconds: seconds of audio in one batch of a neural encoder.
    """

    codebook: Path
    shard_seconds: float = 3600.0
    engine: str = "local"
    ray_address: str | None = None
    workers: int | None = None
    device: Device = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_seconds: float = 60.0


def prepare_benchmark(
    path: Path,
    out: Path,
    options: BenchmarkOptions,
    encoding: EncodingOptions | None,
    log: Callable[[str], None],
) -> None:
    """Write OUT/manifest.jsonl, OUT/manifest.skips.jsonl and, with `encoding`, the shards in OUT/units.

    Args:
        path: the benchmark as released, a folder or a file.
        out: folder to write to.
        options: how the benchmark is read.
        encoding: how it is encoded; None writes the manifest only.
        log: receives what is found, line by line.

    Raises:
        UserError: the benchmark cannot be read, a pair cannot be used, or the encoding fails.
    """
    source = open_benchmark(
        path, options.layout, task=options.task, root=options.root, subfolders=options.subfolders
    )
    with spinner("reading the benchmark"):
        summary = write_benchmark_manifest(source, out, incomplete=options.incomplete)
    log(f"{summary.manifest}: {summary} ({source.layout} layout).")
    for note in summary.notes:
        log(f"Note: {note}.")
    units = out / "units"
    if encoding is None:
        log(f"Next: speechscale encode {summary.manifest} --root {source.root} --code-book … -o {units}")
        return
    job = EncodingJob(
        manifest=summary.manifest,
        codebook=encoding.codebook,
        out=units,
        root=source.root,
        shard_seconds=encoding.shard_seconds,
        compute=ComputeOptions(encoding.device, encoding.precision, encoding.batch_seconds),
    )
    backend = choose_backend(encoding.engine, encoding.workers, encoding.ray_address)
    log(f"{units}: {encode_manifest(job, backend, log)}")
