"""Models of a given shape as training begins with them."""

from __future__ import annotations

from typing import Any

import torch

from speechscale.model.hugging_face import HuggingFaceModel
from speechscale.model.protocol import LanguageModel
from speechscale.model.shape import TrainingPreset
from speechscale.model.transformer import Transformer


def untrained_like(model: LanguageModel, preset: TrainingPreset, seed: int) -> LanguageModel:
    """A model of the same shape with random initial weights, in evaluation mode on the same device.

    Args:
        model: gives shape, or configuration, and device.
        preset: whose initialisation our own models get; others have that of their library.
        seed: of the weights; the global generator of torch stays as it is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(model, Transformer):
            return Transformer(model.shape, preset).eval().to(model.device)
        assert isinstance(model, HuggingFaceModel)
        initialise: Any = type(model.module)
        module = initialise(model.module.config)
        return HuggingFaceModel(module.to(device=model.device, dtype=torch.float32))
