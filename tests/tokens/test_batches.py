"""True epochs: every window once, in a seeded order that needs nothing but the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.tokens.batches import Windows

MADE = {"vocab_size": 1002, "eos_token": 1000, "pad_token": 1001}


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    stream = np.arange(103) % 1000
    for number, part in enumerate(np.array_split(stream, 2)):
        units = np.append(part, 1000).astype(np.int16)
        write_shard(tmp_path / f"shard-{number}", [Sample(f"s{number}", units, 1.0, {})], [], MADE)
    return Windows(open_shards(tmp_path), context=8)


def test_every_window_once_an_epoch(windows: Windows) -> None:
    assert windows.count == (105 - 1) // 8 == 13
    for epoch in range(3):
        seen = [windows.batch(seed=5, step=epoch * 13 + i, size=1)[0].tolist() for i in range(13)]
        assert sorted(seen) == sorted(windows.window(i).tolist() for i in range(13))


def test_every_unit_is_predicted_once_an_epoch(windows: Windows) -> None:
    targets = np.concatenate([windows.window(i)[1:] for i in range(windows.count)])
    assert np.array_equal(targets, windows.stream[1 : 1 + windows.count * 8])


def test_batches_follow_one_another_across_epochs(windows: Windows) -> None:
    """Batches of 5 over 13 windows: the third begins in one epoch and ends in the next."""
    large = np.concatenate([windows.batch(seed=1, step=step, size=5) for step in range(13)])
    small = np.concatenate([windows.batch(seed=1, step=step, size=1) for step in range(65)])
    assert np.array_equal(large, small)


def test_order_depends_on_seed_and_epoch(windows: Windows) -> None:
    first = windows.batch(seed=1, step=0, size=13)
    assert not np.array_equal(first, windows.batch(seed=2, step=0, size=13))
    assert not np.array_equal(first, windows.batch(seed=1, step=1, size=13))
    assert np.array_equal(first, windows.batch(seed=1, step=0, size=13))


def test_limit_keeps_the_start_of_the_corpus(tmp_path: Path, windows: Windows) -> None:
    limited = Windows(open_shards(tmp_path), context=8, limit=40)
    assert limited.tokens == 40
    assert np.array_equal(limited.stream, windows.stream[:41])


def test_a_corpus_shorter_than_a_window_is_a_sentence(tmp_path: Path, windows: Windows) -> None:
    with pytest.raises(UserError, match="has 105 units, a window needs 201"):
        Windows(open_shards(tmp_path), context=200)
