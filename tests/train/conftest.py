"""A tiny run and its corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from counting import MADE, counters

from speechscale.records.shards import Shard, open_shards, write_shard
from speechscale.train.spec import RunSpec


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
        peak_lr=1e-2,
        preset="modern",
        precision="float32",
        curve=2,
        checkpoint_steps=2,
    )
