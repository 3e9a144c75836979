"""The transformer against a plain reference implementation, and its initialisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from random_models import random_transformer

from speechscale.errors import UserError
from speechscale.model.likelihood import negative_log_likelihoods
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=20, context=40, hidden_multiple=16)


@pytest.fixture
def model() -> Transformer:
    return random_transformer(SHAPE, 0.2)


def plain_logits(model: Transformer, tokens: list[int]) -> torch.Tensor:
    """Reference logits of one sequence, head by head, with complex rotations."""
    dim, heads, width = SHAPE.dim, SHAPE.heads, SHAPE.head_dim
    angle = [[t * 10_000.0 ** (-2 * i / width) for i in range(width // 2)] for t in range(len(tokens))]
    turn = torch.polar(torch.ones(len(tokens), width // 2), torch.tensor(angle))

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    def rotate(x: torch.Tensor) -> torch.Tensor:
        turned = torch.complex(x[:, : width // 2], x[:, width // 2 :]) * turn
        return torch.cat([turned.real, turned.imag], dim=1)

    x = model.embedding.weight[tokens]
    for block in model.blocks:
        q, k, v = (norm(x, block.attention_norm) @ block.qkv.weight.T).split(dim, dim=1)
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = rotate(q[:, part]) @ rotate(k[:, part]).T / math.sqrt(width)
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
            mixed.append(scores.softmax(-1) @ v[:, part])
        x = x + torch.cat(mixed, dim=1) @ block.out.weight.T
        gate, up = (norm(x, block.mlp_norm) @ block.gate_up.weight.T).split(SHAPE.hidden, dim=1)
        x = x + (gate * torch.sigmoid(gate) * up) @ block.down.weight.T
    return norm(x, model.norm) @ model.embedding.weight.T


def test_logits_equal_the_reference(model: Transformer) -> None:
    tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    with torch.no_grad():
        assert torch.allclose(model(torch.tensor([tokens]))[0], plain_logits(model, tokens), atol=2e-4)


def test_logits_do_not_depend_on_later_tokens(model: Transformer) -> None:
    tokens = torch.randint(0, 20, (2, 12))
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 20
    with torch.no_grad():
        assert torch.allclose(model(tokens)[:, :8], model(changed)[:, :8], atol=1e-5)


@pytest.mark.parametrize(("preset", "scaled_down"), [("paper", "up"), ("modern", "down")])
def test_presets_scale_down_their_projection(preset: str, scaled_down: str) -> None:
    torch.manual_seed(0)
    shape = SHAPE.model_copy(update={"dim": 128, "layers": 8})
    block = Transformer(shape, preset).blocks[0]  # type: ignore[arg-type]
    gate, up = block.gate_up.weight.chunk(2)
    small = 0.02 / math.sqrt(16)
    deviations = {"gate": gate, "up": up, "down": block.down.weight, "out": block.out.weight}
    for name, weight in deviations.items():
        expected = small if name in (scaled_down, "out") else 0.02
        assert weight.std().item() == pytest.approx(expected, rel=0.05), name


def test_likelihoods_do_not_depend_on_batch_or_order(model: Transformer) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 20, length).astype(np.int16) for length in (1, 7, 30, 7, 2, 40)]
    together = negative_log_likelihoods(model, sequences, bos=19, dtype=torch.float32)
    alone = [negative_log_likelihoods(model, [s], bos=19, dtype=torch.float32)[0] for s in sequences]
    assert np.allclose(together, alone, rtol=1e-5)
    backwards = negative_log_likelihoods(model, sequences[::-1], bos=19, dtype=torch.float32)
    assert np.allclose(together, backwards[::-1], rtol=1e-5)


def test_likelihood_equals_the_reference(model: Transformer) -> None:
    with torch.no_grad():
        log_p = F.log_softmax(plain_logits(model, [19, 5, 6]), dim=-1)
    expected = -(log_p[0, 5] + log_p[1, 6] + log_p[2, 7]).item()
    found = negative_log_likelihoods(model, [np.array([5, 6, 7])], bos=19, dtype=torch.float32)[0]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("length", [40, 41, 60, 61, 200])
def test_long_sequences_score_every_unit_once_after_half_a_context(model: Transformer, length: int) -> None:
    """Against a loop over units: a window starts half a context before the end of its predecessor."""
    sequence = np.random.default_rng(length).integers(0, 20, length)
    tokens = torch.tensor([19, *sequence])
    total, start = 0.0, 0
    with torch.no_grad():
        for position in range(length):  # predict tokens[position + 1]
            if position >= start + 40:
                start = position - 20
            log_p = model(tokens[None, start : position + 1])[0, -1].log_softmax(-1)
            total -= log_p[tokens[position + 1]].item()
    found = negative_log_likelihoods(model, [sequence], bos=19, dtype=torch.float32)[0]
    assert found == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(("sequence", "message"), [([], "has no units"), ([20], "vocabulary ends at 19")])
def test_invalid_sequences_are_refused(model: Transformer, sequence: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        negative_log_likelihoods(model, [np.array(sequence, dtype=np.int16)], bos=19, dtype=torch.float32)


@pytest.mark.parametrize("length", [40, 300, 600])  # attention in float32, and in bfloat16
def test_bfloat16_loss_and_gradient_are_close_to_float32(length: int) -> None:
    torch.manual_seed(0)
    model = Transformer(SHAPE.model_copy(update={"context": length}))
    tokens = torch.randint(0, 20, (2, length + 1))

    def loss_and_gradient(bfloat16: bool) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, exact_gradient = loss_and_gradient(bfloat16=False)
    loss, gradient = loss_and_gradient(bfloat16=True)
    assert loss == pytest.approx(exact, rel=1e-3)
    assert (gradient - exact_gradient).norm() < 0.02 * exact_gradient.norm()
