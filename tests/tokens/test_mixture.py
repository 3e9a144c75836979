"""Mixtures of corpora: shares, true epochs in each, equality of a mixture of one with its corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.shards import Sample, Shard, open_shards, vocabulary_of, write_shard
from speechscale.tokens.batches import Windows
from speechscale.tokens.mixture import Mixture, TrainingCorpus

CONTEXT = 4
PREPROCESSING: dict[str, object] = {**vocabulary_of(1000), "kmeans": {"sha256": "k"}}


def corpus(
    folder: Path, first: int, windows: int, preprocessing: dict[str, object] = PREPROCESSING
) -> list[Shard]:
    """One sample of consecutive units, by which a unit identifies its window."""
    units = np.append(np.arange(first, first + windows * CONTEXT), 1000).astype(np.int16)
    write_shard(folder / "shard-0", [Sample("a", units, 1.0, {})], [], preprocessing)
    return open_shards(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    return corpus(tmp_path_factory.mktemp("small"), 0, 5)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    return corpus(tmp_path_factory.mktemp("large"), 100, 23)


def test_mixture_of_one_corpus_equals_that_corpus(small: list[Shard]) -> None:
    alone, mixed = Windows(small, CONTEXT), Mixture([TrainingCorpus(small, weight=3.0)], CONTEXT)
    for step in range(7):
        assert np.array_equal(alone.batch(5, step, 3), mixed.batch(5, step, 3))
    assert mixed.unique_tokens == alone.unique_tokens
    assert mixed.unique_tokens_in(2) == 2 * CONTEXT and mixed.unique_tokens_in(50) == alone.unique_tokens


def test_every_corpus_is_read_in_true_epochs(small: list[Shard], large: list[Shard]) -> None:
    mixture = Mixture([TrainingCorpus(small, 1.0), TrainingCorpus(large, 3.0)], CONTEXT)
    rows = mixture.batch(0, 0, 40)
    of_small = [int(row[0]) for row in rows if row[0] < 100]
    of_large = [int(row[0]) for row in rows if row[0] >= 100]
    assert (len(of_small), len(of_large)) == (10, 30)
    assert Counter(of_small) == dict.fromkeys(range(0, 20, CONTEXT), 2)  # two epochs of five windows
    assert len(set(of_large[:23])) == 23 and set(of_large[23:]) <= set(of_large[:23])
    assert mixture.unique_tokens_in(40) == 5 * CONTEXT + 23 * CONTEXT


def test_batch_is_a_function_of_seed_and_step(small: list[Shard], large: list[Shard]) -> None:
    def mixture() -> Mixture:
        return Mixture([TrainingCorpus(small, 0.3), TrainingCorpus(large, 0.7)], CONTEXT)

    whole = mixture().batch(1, 0, 24)
    assert np.array_equal(whole, np.concatenate([mixture().batch(1, step, 4) for step in range(6)]))
    assert np.array_equal(mixture().batch(1, 5, 4), whole[20:])
    assert not np.array_equal(mixture().batch(2, 0, 24), whole)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> list[list[Shard]]:
    return [corpus(tmp_path_factory.mktemp("five"), 50 * number, 5) for number in range(5)]


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    count=st.integers(0, 10**9),
)
def test_windows_per_corpus_follow_the_shares_and_grow_by_one(
    five: list[list[Shard]], weights: list[float], count: int
) -> None:
    corpora = [TrainingCorpus(shards, weight) for shards, weight in zip(five, weights, strict=False)]
    mixture = Mixture(corpora, CONTEXT)
    before, after = mixture.windows_per_corpus(count), mixture.windows_per_corpus(count + 1)
    assert sum(before) == count
    assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0] * (len(weights) - 1) + [1]
    for windows, weight in zip(before, weights, strict=True):
        assert abs(windows - count * weight / sum(weights)) < len(weights) + 1e-3


def test_corpora_of_another_encoding_are_refused(small: list[Shard], tmp_path: Path) -> None:
    other = corpus(tmp_path / "other", 0, 5, {**PREPROCESSING, "kmeans": {"sha256": "other"}})
    with pytest.raises(UserError, match=r"kmeans\.sha256: found 'other', wanted 'k'"):
        Mixture([TrainingCorpus(small), TrainingCorpus(other)], CONTEXT)
    with pytest.raises(UserError, match="no corpora"):
        Mixture([], CONTEXT)


def test_corpora_with_shared_speech_are_refused(small: list[Shard], large: list[Shard]) -> None:
    with pytest.raises(UserError, match=r"the same speech is in .*unique twice"):
        Mixture([TrainingCorpus(small), TrainingCorpus(large), TrainingCorpus(small, weight=2.0)], CONTEXT)
