"""Effect of a lower precision on units: the share of frames whose unit changes, on a seeded sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from speechscale.compute import ComputeOptions
from speechscale.errors import SampleFault
from speechscale.records.manifest import sample_manifest
from speechscale.units.codebook import load_codebook
from speechscale.units.encoders import load_encoder
from speechscale.units.source import SpeechSource


@dataclass(frozen=True)
class PrecisionTask:
    """Everything that a worker needs to compare the units of a precision with those of float32."""

    source: SpeechSource
    codebook: Path
    compute: ComputeOptions
    utterances: int = 32  # size of the sample
    seed: int = 0


def count_changed_units(task: PrecisionTask) -> tuple[int, int]:
    """The number of frames of the sample whose unit differs from float32, and the number of all frames."""
    codebook = load_codebook(task.codebook)
    source = task.source
    utterances = sample_manifest(source.manifest, task.utterances, task.seed, source.split)
    waveforms = [
        waveform
        for waveform in source.load_waveforms(utterances, source.root)
        if not isinstance(waveform, SampleFault)
    ]
    exact, coarse = (
        [
            codebook.assign(frames)
            for frames in load_encoder(codebook.encoder, compute).encode(waveforms)
            if len(frames)
        ]
        for compute in (replace(task.compute, precision="float32"), task.compute)
    )
    changed = sum(int((a != b).sum()) for a, b in zip(exact, coarse, strict=True))
    return changed, sum(map(len, exact))
