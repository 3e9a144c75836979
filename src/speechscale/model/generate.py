"""Sampling of units: a model goes on where a prompt ends, one unit at a time, with keys and values kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.transformer import KVCache, Transformer

_ROWS = 32  # sequences sampled side by side; bounds the memory of keys and values


@dataclass(frozen=True)
class Sampling:
    """How the next unit is drawn. Temperature 0 takes the likeliest; limits apply in the order given here."""

    temperature: float = 1.0
    top_k: int | None = None  # of the likeliest units only
    top_p: float = 1.0  # of the fewest units that hold this probability together (Holtzman et al. 2020)
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"a temperature of {self.temperature}; zero or more is wanted.")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"a top-k of {self.top_k}; at least 1 is wanted.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"a top-p of {self.top_p}; a share in (0, 1] is wanted.")


def generate(
    model: Transformer, prompts: Sequence[np.ndarray], most: int, sampling: Sampling, dtype: torch.dtype
) -> list[np.ndarray]:
    """Go on from each prompt by at most `most` units; padding is never drawn.

    Args:
        prompts: units of each (integers, without EOS), perhaps none. EOS is put before them, as in training.

    Returns:
        What follows each prompt, int64, its EOS included unless `most` came first. Sequence i depends on its prompt,
        its place i and the seed alone, not on those beside it.

    Raises:
        UserError: a prompt has units that the model does not know, or does not leave room in the context.
    """
    _check(model, prompts, most)
    return [
        units
        for start in range(0, len(prompts), _ROWS)
        for units in _go_on(model, prompts[start : start + _ROWS], start, most, sampling, dtype)
    ]


@torch.inference_mode()
def _go_on(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    first_row: int,
    most: int,
    sampling: Sampling,
    dtype: torch.dtype,
) -> list[np.ndarray]:
    """Rows stand flush left; while a row's prompt lasts, its units are read instead of drawn."""
    shape, device = model.shape, model.embedding.weight.device
    starts = torch.tensor([len(prompt) + 1 for prompt in prompts])  # where drawing begins
    length = int(starts.max()) + most
    tokens = torch.full((len(prompts), length), shape.pad)
    tokens[:, 0] = shape.eos
    for row, prompt in zip(tokens, prompts, strict=True):
        row[1 : len(prompt) + 1] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
    chance = torch.from_numpy(
        np.stack(
            [np.random.default_rng([sampling.seed, first_row + i]).random(most) for i in range(len(prompts))]
        )
    )
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    kv_cache = [KVCache(length) for _ in model.blocks]
    read = 0
    for place in range(int(starts.min()), length):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(tokens[:, read:place].to(device), kv_cache=kv_cache)[:, -1]
        read = place
        logits[:, shape.pad] = -torch.inf
        drawn = _draw(
            logits.float(), chance.gather(1, (place - starts).clamp(0, most - 1)[:, None]), sampling
        )
        drawing = (place >= starts) & (place < starts + most) & ~ended
        tokens[drawing, place] = drawn[drawing]
        ended |= (drawing & (drawn == shape.eos)) | (place + 1 >= starts + most)
        if ended.all():
            break
    return [
        _to_eos(row[start : start + most].numpy(), shape.eos)
        for row, start in zip(tokens, starts.tolist(), strict=True)
    ]


def _draw(logits_RV: Tensor, chance_R1: Tensor, sampling: Sampling) -> Tensor:
    """One unit a row [R], by inverting the distribution function at `chance`."""
    if sampling.temperature == 0:
        return logits_RV.argmax(dim=1).cpu()
    sorted_RV, units_RV = logits_RV.sort(dim=1, descending=True, stable=True)
    p_RV = (sorted_RV[:, : sampling.top_k].cpu().double() / sampling.temperature).softmax(dim=1)
    before_RV = p_RV.cumsum(dim=1) - p_RV
    p_RV = p_RV.where(before_RV < sampling.top_p, 0.0)
    reached_RV = p_RV.cumsum(dim=1)
    place_R1 = (reached_RV <= chance_R1 * reached_RV[:, -1:]).sum(dim=1, keepdim=True)
    last_R1 = (p_RV > 0).sum(dim=1, keepdim=True) - 1
    return units_RV.cpu().gather(1, place_R1.minimum(last_R1))[:, 0]


def _to_eos(units: np.ndarray, eos: int) -> np.ndarray:
    ends = np.flatnonzero(units == eos)
    return units[: ends[0] + 1] if len(ends) else units


def _check(model: Transformer, prompts: Sequence[np.ndarray], most: int) -> None:
    shape = model.shape
    if most < 1:
        raise UserError(f"{most} units to generate; at least 1 is wanted.")
    for number, prompt in enumerate(prompts):
        if len(prompt) and (min(prompt) < 0 or max(prompt) >= shape.eos):
            raise UserError(
                f"prompt {number} has units from {min(prompt)} to {max(prompt)}; the model knows 0 to {shape.eos - 1}."
            )
        if len(prompt) + most > shape.context:
            raise UserError(
                f"prompt {number} of {len(prompt)} units and {most} more exceed the context of {shape.context}; "
                "shorten the prompt or ask for fewer."
            )
