"""Helpers for tests of benchmark layouts: short recordings, prepared manifests, and refused benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_files import audio

from speechscale.datasets.benchmarks import open_benchmark
from speechscale.datasets.benchmarks.benchmark_manifest import BenchmarkSummary, write_benchmark_manifest
from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import Utterance, read_manifest
from speechscale.records.shards import Skip


class PreparedBenchmark:
    """The manifest of a benchmark, by utterance."""

    def __init__(self, summary: BenchmarkSummary) -> None:
        self.summary = summary
        self.utterances = list(read_manifest(summary.manifest))
        self.labels = {utterance.id: Label.model_validate(utterance.extra) for utterance in self.utterances}
        self.by_id = {utterance.id: utterance for utterance in self.utterances}
        self.skips = read_skips(summary.skips)

    @property
    def pairs(self) -> dict[str, tuple[Utterance, Utterance]]:
        """Correct and wrong member, by pair id; they must be consecutive in the manifest."""
        found: dict[str, tuple[Utterance, Utterance]] = {}
        for correct, wrong in zip(self.utterances[::2], self.utterances[1::2], strict=True):
            label, other = self.labels[correct.id], self.labels[wrong.id]
            assert label.pair_id == other.pair_id and (label.correct, other.correct) == (True, False)
            assert label.pair_id not in found
            found[label.pair_id] = (correct, wrong)
        return found


def read_skips(path: Path) -> list[Skip]:
    return [Skip(**json.loads(line)) for line in path.read_text().splitlines()]


def prepare(path: Path, out: Path, *, incomplete: bool = False, **options: Any) -> PreparedBenchmark:
    """The manifest of a benchmark; `options` are those of `open_benchmark`."""
    source = open_benchmark(path, **options)
    return PreparedBenchmark(write_benchmark_manifest(source, out, incomplete=incomplete))


def prepare_refused(path: Path, out: Path, **options: Any) -> tuple[str, list[Skip], PreparedBenchmark]:
    """The error about a benchmark, the list of its faults, and the manifest without them."""
    with pytest.raises(UserError) as caught:
        prepare(path, out, **options)
    assert not (out / "manifest.jsonl").exists()
    skips = read_skips(out / "manifest.skips.jsonl")
    remaining = prepare(path, out, incomplete=True, **options)
    assert remaining.skips == skips and remaining.summary.skip_reasons.total() == len(skips)
    return str(caught.value), skips, remaining


def short_wav(path: Path) -> Path:
    return audio(path, 0.06)
