"""Random models whose weights are far from their small initial values, so that every part affects the logits."""

from __future__ import annotations

import torch
from torch import nn

from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer


def random_transformer(shape: ModelShape, std: float) -> Transformer:
    """A transformer in evaluation mode, of seed 0, with noise of deviation `std` on its initial weights."""
    torch.manual_seed(0)
    model = Transformer(shape)
    add_noise(model, std)
    return model.eval()


def add_noise(model: nn.Module, std: float) -> None:
    """Add Gaussian noise to all parameters, from torch's global generator."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn_like(parameter))
