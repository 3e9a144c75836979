"""A tiny run and its corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_records import run_spec
from toy_shards import PREPROCESSING, counter_samples

from speechscale.records.shards import Shard, open_shards, write_shard
from speechscale.train.spec import RunSpec


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    samples = counter_samples(np.random.default_rng(0), "a")
    write_shard(tmp_path / "train" / "shard-0", samples, [], PREPROCESSING)
    return open_shards(tmp_path / "train")


@pytest.fixture
def test_shards(tmp_path: Path) -> list[Shard]:
    samples = counter_samples(np.random.default_rng(1), "b")
    write_shard(tmp_path / "test" / "shard-0", samples, [], PREPROCESSING)
    return open_shards(tmp_path / "test")


@pytest.fixture
def two_corpora(tmp_path: Path) -> tuple[list[Shard], list[Shard]]:
    for number, name in enumerate("cd"):
        samples = counter_samples(np.random.default_rng(5 + number), name)
        write_shard(tmp_path / name / "shard-0", samples, [], PREPROCESSING)
    return open_shards(tmp_path / "c"), open_shards(tmp_path / "d")


@pytest.fixture
def data(shards: list[Shard], test_shards: list[Shard], tmp_path: Path) -> Path:
    """Folder of the shards `train` and `test`."""
    return tmp_path


@pytest.fixture
def spec() -> RunSpec:
    return run_spec(steps=10, layers=2, peak_lr=1e-2, preset="modern", curve=2, checkpoint_steps=2)
