"""True epochs: every window once, in a seeded order that depends on the step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.shards import Sample, open_shards, vocabulary_of, write_shard
from speechscale.tokens.batches import Windows

PREPROCESSING = vocabulary_of(1000)


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    stream = np.arange(103) % 1000
    for number, part in enumerate(np.array_split(stream, 2)):
        units = np.append(part, 1000).astype(np.int16)
        write_shard(tmp_path / f"shard-{number}", [Sample(f"s{number}", units, 1.0, {})], [], PREPROCESSING)
    return Windows(open_shards(tmp_path), context=8)


def test_every_window_occurs_once_an_epoch(windows: Windows) -> None:
    assert windows.num_windows == (105 - 1) // 8 == 13
    for epoch in range(3):
        seen = [windows.batch(seed=5, step=epoch * 13 + i, size=1)[0].tolist() for i in range(13)]
        assert sorted(seen) == sorted(windows.window(i).tolist() for i in range(13))


def test_every_unit_is_predicted_once_an_epoch(windows: Windows) -> None:
    targets = np.concatenate([windows.window(i)[1:] for i in range(windows.num_windows)])
    stream = [*range(52), 1000, *range(52, 103), 1000]
    assert targets.tolist() == stream[1 : 1 + windows.num_windows * 8]


def test_batches_continue_across_epochs(windows: Windows) -> None:
    """Batches of 5 over 13 windows: the third begins in one epoch and ends in the next."""
    large = np.concatenate([windows.batch(seed=1, step=step, size=5) for step in range(13)])
    small = np.concatenate([windows.batch(seed=1, step=step, size=1) for step in range(65)])
    assert np.array_equal(large, small)


def test_order_depends_on_seed_and_epoch(windows: Windows) -> None:
    first = windows.batch(seed=1, step=0, size=13)
    assert not np.array_equal(first, windows.batch(seed=2, step=0, size=13))
    assert not np.array_equal(first, windows.batch(seed=1, step=1, size=13))
    assert np.array_equal(first, windows.batch(seed=1, step=0, size=13))


def test_limit_uses_the_start_of_the_corpus(tmp_path: Path, windows: Windows) -> None:
    limited = Windows(open_shards(tmp_path), context=8, limit=40)
    assert limited.unique_tokens == 40 and limited.num_windows == 5
    assert all(np.array_equal(limited.window(i), windows.window(i)) for i in range(5))


@given(
    st.lists(st.lists(st.integers(1, 30), max_size=4), min_size=1, max_size=4),
    st.integers(2, 40),
    st.none() | st.integers(1, 200),
)
@settings(max_examples=25, deadline=None)
def test_windows_are_those_of_the_concatenated_shards(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[int]], context: int, limit: int | None
) -> None:
    """For empty shards, shards of one short sample, and several shards within one window."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    parts = []
    for number, lengths in enumerate(contents):
        samples = [np.append(rng.integers(0, 1000, length - 1), 1000).astype(np.int16) for length in lengths]
        named = [Sample(f"s{i}", units, 1.0, {}) for i, units in enumerate(samples)]
        write_shard(folder / f"shard-{number}", named, [], PREPROCESSING)
        parts += samples
    stream = np.concatenate([np.empty(0, dtype=np.int16), *parts])[: None if limit is None else limit + 1]
    count = (len(stream) - 1) // context
    if count < 1:
        with pytest.raises(UserError, match=f"has {len(stream)} units, a window needs {context + 1}"):
            Windows(open_shards(folder), context, limit)
        return
    windows = Windows(open_shards(folder), context, limit)
    assert windows.num_windows == count and windows.unique_tokens == count * context
    order = np.concatenate([np.random.default_rng([7, epoch]).permutation(count) for epoch in range(3)])
    for step in range(3):
        expected = [
            stream[i * context : (i + 1) * context + 1] for i in order[step * count : (step + 1) * count]
        ]
        batch = windows.batch(seed=7, step=step, size=count)
        assert batch.dtype == np.int64 and np.array_equal(batch, np.stack(expected))


def test_corpus_shorter_than_a_window_is_an_error(tmp_path: Path, windows: Windows) -> None:
    with pytest.raises(UserError, match="has 105 units, a window needs 201"):
        Windows(open_shards(tmp_path), context=200)
