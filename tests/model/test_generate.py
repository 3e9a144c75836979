"""Sampling: equality with and without a cache, limits, and frequencies against the model's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_transformer

from speechscale.errors import UserError
from speechscale.model.generate import Sampling, generate
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import KVCache, Transformer

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=12, context=40, hidden_multiple=16)
EOS, PAD = 10, 11


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_transformer(SHAPE, 0.15)


def continuations(
    model: Transformer, prompts: list[list[int]], max_new_tokens: int, **options: Any
) -> list[list[int]]:
    arrays = [np.array(prompt, dtype=np.int64) for prompt in prompts]
    generated = generate(model, arrays, max_new_tokens, Sampling(**options), torch.float32)
    return [units.tolist() for units in generated]


def next_logits(model: Transformer, units: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[EOS, *units]]))[0, -1]


@pytest.mark.parametrize("first", [1, 7, 39])
def test_logits_with_and_without_cache_are_equal(model: Transformer, first: int) -> None:
    tokens = torch.randint(0, 12, (3, 40))
    kv_cache = [KVCache(40) for _ in model.blocks]
    with torch.no_grad():
        pieces = [model(tokens[:, :first], kv_cache=kv_cache)]
        pieces += [
            model(tokens[:, position : position + 1], kv_cache=kv_cache) for position in range(first, 40)
        ]
        assert (torch.cat(pieces, dim=1) - model(tokens)).abs().max() < 1e-5


def test_greedy_sampling_takes_the_argmax(model: Transformer) -> None:
    prompts = [[], [3], [1, 2, 3, 4, 5], [9, 9]]
    for prompt, found in zip(prompts, continuations(model, prompts, 20, temperature=0), strict=True):
        expected: list[int] = []
        while len(expected) < 20 and expected[-1:] != [EOS]:
            expected.append(int(next_logits(model, prompt + expected)[:PAD].argmax()))
        assert found == expected


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    max_new_tokens=st.integers(1, 28),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 5.0]),
    top_k=st.sampled_from([None, 1, 3, 99]),
    top_p=st.sampled_from([0.1, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
def test_continuations_end_at_eos_or_the_limit_without_padding(
    model: Transformer, lengths: list[int], max_new_tokens: int, **options: Any
) -> None:
    prompts = [[3] * length for length in lengths]
    generated = continuations(model, prompts, max_new_tokens, **options)
    for units in generated:
        assert 1 <= len(units) <= max_new_tokens and PAD not in units and EOS not in units[:-1]
        assert len(units) == max_new_tokens or units[-1] == EOS
    assert continuations(model, prompts, max_new_tokens, **options) == generated


def test_a_continuation_does_not_depend_on_its_batch(model: Transformer) -> None:
    prompts = [[i % 10] * (i % 4) for i in range(40)]  # more than one batch
    together = continuations(model, prompts, 15, seed=5)
    assert continuations(model, prompts[:3], 15, seed=5) == together[:3]
    assert continuations(model, [[7], [7]], 15, seed=5)[0] != continuations(model, [[7], [7]], 15, seed=5)[1]
    assert continuations(model, prompts, 15, seed=6) != together


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}])
def test_frequencies_follow_the_probabilities(model: Transformer, options: dict[str, Any]) -> None:
    """3,000 first units after one prompt against the distribution, computed in numpy."""
    logits = next_logits(model, [4, 4]).double().numpy()
    p = np.exp(logits / options.get("temperature", 1.0))
    p[PAD] = 0
    p /= p.sum()
    order = np.argsort(-p)
    if "top_k" in options:
        p[order[3:]] = 0
    if "top_p" in options:
        p[order[np.searchsorted(np.cumsum(p[order]), 0.6) + 1 :]] = 0
    p /= p.sum()
    found = (
        np.bincount([units[0] for units in continuations(model, [[4, 4]] * 3000, 1, **options)], minlength=12)
        / 3000
    )
    assert not found[p == 0].any()
    assert np.abs(found - p).max() < 4 * np.sqrt(0.25 / 3000)
    assert len(set(p[p > 0])) > 1  # a uniform distribution would fail the test


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens", "options", "message"),
    [
        ([EOS], 5, {}, "units from 10 to 10; the model knows 0 to 9"),
        ([1] * 30, 11, {}, "prompt 0 of 30 units and 11 more exceed the context of 40"),
        ([1], 0, {}, "at least 1 is wanted"),
        ([1], 1, {"temperature": -1.0}, "temperature of -1"),
        ([1], 1, {"top_k": 0}, "top-k of 0"),
        ([1], 1, {"top_p": 0.0}, "top-p of 0"),
    ],
)
def test_invalid_requests_are_refused(
    model: Transformer, prompt: list[int], max_new_tokens: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        continuations(model, [prompt], max_new_tokens, **options)


def test_the_full_context_can_be_used(model: Transformer) -> None:
    found = continuations(model, [[1] * 10], 30, temperature=0)[0]
    assert found[-1] == EOS or len(found) == 30
