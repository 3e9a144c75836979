"""Counts from the shape, against the module and the published sizes."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer

# Layers, dim, heads of the study; its sizes are total parameters in millions, with the tied embedding counted once.
PUBLISHED = {
    20.71: (6, 512, 8),
    85.34: (12, 768, 12),
    154.68: (12, 1024, 16),
    308.85: (24, 1024, 16),
    823.18: (16, 2048, 32),
}


@pytest.mark.parametrize("millions", PUBLISHED)
def test_published_sizes(millions: float) -> None:
    layers, dim, heads = PUBLISHED[millions]
    shape = ModelShape(layers=layers, dim=dim, heads=heads, vocabulary=502, context=2050)
    assert round(shape.params_total / 1e6, 2) == millions


def test_smallest_published_model_without_embedding() -> None:
    assert ModelShape(layers=6, dim=512, heads=8, vocabulary=502, context=2050).params == 20_453_888


@pytest.mark.parametrize("millions", PUBLISHED)
def test_published_counts_equal_those_of_the_module(millions: float) -> None:
    """On the meta device, where parameters have shapes and no memory."""
    layers, dim, heads = PUBLISHED[millions]
    shape = ModelShape(layers=layers, dim=dim, heads=heads, vocabulary=502, context=2050)
    with torch.device("meta"):
        model = Transformer(shape)
    assert sum(p.numel() for p in model.parameters()) == shape.params_total
    assert (
        sum(p.numel() for name, p in model.named_parameters() if name != "embedding.weight") == shape.params
    )
    assert sum(p.numel() for p in model.parameters() if p.ndim == 2) == shape.layer_matmul_params + 502 * dim


@pytest.mark.parametrize("dims", [(1, 16, 1, 16), (3, 48, 2, 32), (2, 64, 4, 256)])
def test_counts_equal_those_of_the_module(dims: tuple[int, int, int, int]) -> None:
    layers, dim, heads, multiple = dims
    shape = ModelShape(
        layers=layers, dim=dim, heads=heads, vocabulary=50, context=32, hidden_multiple=multiple
    )
    model = Transformer(shape)
    assert sum(p.numel() for p in model.parameters()) == shape.params_total
    assert shape.params_total - model.embedding.weight.numel() == shape.params


def test_exact_flops_equal_the_count_of_torch() -> None:
    """torch counts attention without the causal mask, so the test adds the masked half."""
    shape = ModelShape(layers=2, dim=32, heads=2, vocabulary=50, context=64, hidden_multiple=16)
    model = Transformer(shape)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(3, 64, dtype=torch.long))
    masked_half = shape.layers * 4 * shape.dim * (64 - (64 + 1) / 2) * 3 * 64
    assert counter.get_total_flops() == pytest.approx(shape.flops_exact(3 * 64) / 3 + masked_half)


def test_heads_that_do_not_divide_the_dim_are_refused() -> None:
    with pytest.raises(ValidationError, match="dim 30 must be an even multiple of heads 4"):
        ModelShape(layers=1, dim=30, heads=4, vocabulary=9, context=8)
