"""Sampling: the kept keys and values change nothing, limits hold, and draws follow the model's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.model.generate import Sampling, generate
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import KVCache, Transformer

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=12, context=40, hidden_multiple=16)
EOS, PAD = 10, 11


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def go_on(model: Transformer, prompts: list[list[int]], most: int, **how: Any) -> list[list[int]]:
    made = generate(
        model, [np.array(p, dtype=np.int64) for p in prompts], most, Sampling(**how), torch.float32
    )
    return [units.tolist() for units in made]


def next_logits(model: Transformer, units: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[EOS, *units]]))[0, -1]


@pytest.mark.parametrize("first", [1, 7, 39])
def test_kept_keys_and_values_give_the_logits_of_the_whole(model: Transformer, first: int) -> None:
    tokens = torch.randint(0, 12, (3, 40))
    kv_cache = [KVCache(40) for _ in model.blocks]
    with torch.no_grad():
        pieces = [model(tokens[:, :first], kv_cache=kv_cache)]
        pieces += [model(tokens[:, place : place + 1], kv_cache=kv_cache) for place in range(first, 40)]
        assert (torch.cat(pieces, dim=1) - model(tokens)).abs().max() < 1e-5


def test_greedy_is_the_argmax_of_the_full_forward(model: Transformer) -> None:
    prompts = [[], [3], [1, 2, 3, 4, 5], [9, 9]]
    for prompt, made in zip(prompts, go_on(model, prompts, 20, temperature=0), strict=True):
        wanted: list[int] = []
        while len(wanted) < 20 and wanted[-1:] != [EOS]:
            wanted.append(int(next_logits(model, prompt + wanted)[:PAD].argmax()))
        assert made == wanted


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    most=st.integers(1, 28),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 5.0]),
    top_k=st.sampled_from([None, 1, 3, 99]),
    top_p=st.sampled_from([0.1, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
def test_never_padding_never_beyond_eos_or_most(
    model: Transformer, lengths: list[int], most: int, **how: Any
) -> None:
    prompts = [[3] * length for length in lengths]
    made = go_on(model, prompts, most, **how)
    for units in made:
        assert 1 <= len(units) <= most and PAD not in units and EOS not in units[:-1]
        assert len(units) == most or units[-1] == EOS
    assert go_on(model, prompts, most, **how) == made


def test_a_sequence_does_not_depend_on_its_company(model: Transformer) -> None:
    prompts = [[i % 10] * (i % 4) for i in range(40)]  # more than one batch
    together = go_on(model, prompts, 15, seed=5)
    assert go_on(model, prompts[:3], 15, seed=5) == together[:3]
    assert go_on(model, [[7], [7]], 15, seed=5)[0] != go_on(model, [[7], [7]], 15, seed=5)[1]
    assert go_on(model, prompts, 15, seed=6) != together


@pytest.mark.parametrize("how", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6}])
def test_draws_follow_the_probabilities(model: Transformer, how: dict[str, Any]) -> None:
    """3,000 first units after one prompt against the distribution worked out in numpy."""
    logits = next_logits(model, [4, 4]).double().numpy()
    p = np.exp(logits / how.get("temperature", 1.0))
    p[PAD] = 0
    p /= p.sum()
    order = np.argsort(-p)
    if "top_k" in how:
        p[order[3:]] = 0
    if "top_p" in how:
        p[order[np.searchsorted(np.cumsum(p[order]), 0.6) + 1 :]] = 0
    p /= p.sum()
    found = np.bincount([units[0] for units in go_on(model, [[4, 4]] * 3000, 1, **how)], minlength=12) / 3000
    assert not found[p == 0].any()
    assert np.abs(found - p).max() < 4 * np.sqrt(0.25 / 3000)
    assert len(set(p[p > 0])) > 1  # the test would see a uniform draw


@pytest.mark.parametrize(
    ("prompt", "most", "how", "said"),
    [
        ([EOS], 5, {}, "units from 10 to 10; the model knows 0 to 9"),
        ([1] * 30, 11, {}, "prompt 0 of 30 units and 11 more exceed the context of 40"),
        ([1], 0, {}, "at least 1 is wanted"),
        ([1], 1, {"temperature": -1.0}, "temperature of -1"),
        ([1], 1, {"top_k": 0}, "top-k of 0"),
        ([1], 1, {"top_p": 0.0}, "top-p of 0"),
    ],
)
def test_what_cannot_be_generated(
    model: Transformer, prompt: list[int], most: int, how: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        go_on(model, [prompt], most, **how)


def test_the_whole_context_can_be_used(model: Transformer) -> None:
    made = go_on(model, [[1] * 10], 30, temperature=0)[0]
    assert made[-1] == EOS or len(made) == 30
