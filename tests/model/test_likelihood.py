"""Rows with a shared prefix against separate sequences, and independence of scores from batching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_transformer

from speechscale.model import likelihood
from speechscale.model.likelihood import (
    context_windows,
    negative_log_likelihoods,
    shared_prefix_row,
    sum_by_slot,
)
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=20, context=64, hidden_multiple=16)
UNITS = st.lists(st.integers(0, 17), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_transformer(SHAPE, 0.2)


@settings(max_examples=40, deadline=None)
@given(prefix=UNITS, left=UNITS, right=UNITS, others=st.integers(0, 3))
def test_shared_prefix_row_scores_like_two_sequences(
    model: Transformer, prefix: list[int], left: list[int], right: list[int], others: int
) -> None:
    """Independently of the other rows of the batch, of which shorter ones are padded."""
    begin = np.array([18, *prefix])
    ends = [(np.array(end), np.full(len(end), 1 + k)) for k, end in enumerate((left, right))]
    rows = [shared_prefix_row(begin, np.zeros(len(prefix), dtype=int), ends)]
    for k in range(others):
        ends = [(np.arange(3 + k), np.full(3 + k, 3)), (np.arange(7)[::-1], np.full(7, 3))]
        rows.append(shared_prefix_row(np.array([18, 4]), np.array([3]), ends))
    shared, *own, _ = sum_by_slot(model, rows, 4, torch.float32)
    alone = negative_log_likelihoods(
        model, [np.array(prefix + left), np.array(prefix + right)], bos=18, dtype=torch.float32
    )
    assert np.allclose([shared + own[0], shared + own[1]], alone, rtol=1e-5)


def test_short_and_full_shared_prefix_rows_share_a_batch(model: Transformer) -> None:
    """The full row is longer than the context by its second suffix; padding of the short row has position ids."""
    prefix, suffixes = np.arange(60) % 18, [np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8])]
    short, short_suffixes = np.array([3]), [np.array([4, 5]), np.array([6, 7])]
    rows, sequences = [], []
    for first, (begin, (left, right)) in enumerate(((prefix, suffixes), (short, short_suffixes))):
        slots = [np.full(len(each), 3 * first + k) for k, each in enumerate((begin, left, right))]
        rows.append(shared_prefix_row(np.append(18, begin), slots[0], [(left, slots[1]), (right, slots[2])]))
        sequences += [np.append(begin, left), np.append(begin, right)]
    assert len(rows[0]) > SHAPE.context
    shared, *own, other, left, right = sum_by_slot(model, rows, 6, torch.float32)
    alone = negative_log_likelihoods(model, sequences, bos=18, dtype=torch.float32)
    assert np.allclose([shared + own[0], shared + own[1], other + left, other + right], alone, rtol=1e-5)


def test_scores_do_not_depend_on_batch_size(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 18, length) for length in rng.integers(1, 150, 60)]
    found = {}
    for tokens in (1, 200, 8192):
        monkeypatch.setitem(likelihood._BATCH_TOKENS, "cpu", tokens)
        found[tokens] = negative_log_likelihoods(model, sequences, bos=18, dtype=torch.float32)
    assert np.allclose(found[1], found[8192], rtol=1e-5) and np.allclose(found[200], found[8192], rtol=1e-5)


def test_context_windows_score_every_token_once_within_the_context() -> None:
    tokens = np.arange(201)
    rows = list(context_windows(tokens, np.zeros(200, dtype=int), 64))
    assert all(len(row) <= 64 for row in rows)
    assert np.concatenate([row.targets for row in rows]).tolist() == list(range(1, 201))
    assert all((row.tokens[row.positions] + 1 == row.targets).all() for row in rows)
    assert all(row.positions.min() >= 32 - 1 for row in rows[1:])
