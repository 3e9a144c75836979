"""What a coarser precision costs: the share of units that change, on a seeded sample of utterances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from speechscale.compute import ComputeOptions
from speechscale.errors import SampleFault
from speechscale.records.manifest import sample_manifest
from speechscale.units.encode import LoadWaveforms
from speechscale.units.encoders import load_encoder
from speechscale.units.kmeans import load_code_book


@dataclass(frozen=True)
class PrecisionTask:
    """Everything a worker needs to compare a way of computing with float32."""

    manifest: Path
    root: Path  # what audio paths are relative to
    code_book: Path
    load_waveforms: LoadWaveforms
    computing: ComputeOptions
    split: str | None = None  # compare on this split only
    utterances: int = 32
    seed: int = 0


def changed_units(task: PrecisionTask) -> tuple[int, int]:
    """How many frames of the sample get another unit than in float32, and how many there are."""
    book = load_code_book(task.code_book)
    chosen = sample_manifest(task.manifest, task.utterances, task.seed, task.split)
    heard = [
        waveform
        for waveform in task.load_waveforms(chosen, task.root)
        if not isinstance(waveform, SampleFault)
    ]
    exact, coarse = (
        [book.assign(frames) for frames in load_encoder(book.encoder, computing).encode(heard) if len(frames)]
        for computing in (replace(task.computing, precision="float32"), task.computing)
    )
    changed = sum(int((a != b).sum()) for a, b in zip(exact, coarse, strict=True))
    return changed, sum(map(len, exact))
