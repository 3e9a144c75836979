"""A tiny corpus of units with structure to learn: a noisy counter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechscale.records.shards import Sample, Shard, open_shards, write_shard
from speechscale.train.spec import RunSpec

MADE = {
    "vocab_size": 18,
    "eos_token": 16,
    "pad_token": 17,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "k", "sha256": "k"},
}


def counters(rng: np.random.Generator, prefix: str) -> list[Sample]:
    made = []
    for number in range(40):
        steps = rng.choice([1, 1, 1, 2], size=int(rng.integers(10, 30)))
        units = np.append(np.cumsum(steps) % 16, 16).astype(np.int16)
        made.append(Sample(f"{prefix}{number}", units, len(units) / 25, {}))
    return made


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    write_shard(tmp_path / "train" / "shard-0", counters(np.random.default_rng(0), "a"), [], MADE)
    return open_shards(tmp_path / "train")


@pytest.fixture
def test_shards(tmp_path: Path) -> list[Shard]:
    write_shard(tmp_path / "test" / "shard-0", counters(np.random.default_rng(1), "b"), [], MADE)
    return open_shards(tmp_path / "test")


@pytest.fixture
def spec() -> RunSpec:
    return RunSpec(
        run="tiny",
        layers=2,
        dim=16,
        heads=2,
        hidden_multiple=8,
        context=32,
        batch=4,
        tokens=10 * 4 * 32,
        peak_rate=1e-2,
        preset="modern",
        precision="float32",
        curve=2,
        checkpoint_steps=2,
    )
