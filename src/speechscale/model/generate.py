"""Sampling of units from a model, one at a time, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.transformer import KVCache, Transformer

_BATCH_ROWS = 32  # sequences sampled together; limits the memory of keys and values


@dataclass(frozen=True)
class Sampling:
    """How the next unit is drawn; top-k applies before top-p.

    Attributes:
        temperature: divisor of the logits; 0 takes the likeliest unit.
        top_k: draw from so many likeliest units only; from all when None.
        top_p: draw from the fewest units whose probabilities sum to `top_p` (Holtzman et al. 2020).
        seed: of the random numbers.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"a temperature of {self.temperature}; zero or more is wanted.")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"a top-k of {self.top_k}; at least 1 is wanted.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"a top-p of {self.top_p}; a share in (0, 1] is wanted.")


def generate(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    sampling: Sampling,
    dtype: torch.dtype,
) -> list[np.ndarray]:
    """Sample a continuation of each prompt; padding is never drawn.

    Sequence i depends on its prompt, i and the seed, but not on the other sequences.

    Args:
        model: the model, in evaluation mode.
        prompts: units of each prompt, integers [units], possibly none; EOS precedes them, as in training.
        max_new_tokens: maximum length of a continuation, its EOS included.
        sampling: how units are drawn.
        dtype: precision of the matrix products.

    Returns:
        The continuation of each prompt, int64 [tokens], with its EOS unless `max_new_tokens` came first.

    Raises:
        UserError: a prompt has units outside the vocabulary, or is too long for the context.
    """
    _check_prompts(model, prompts, max_new_tokens)
    return [
        continuation
        for start in range(0, len(prompts), _BATCH_ROWS)
        for continuation in _generate_batch(
            model, prompts[start : start + _BATCH_ROWS], start, max_new_tokens, sampling, dtype
        )
    ]


@torch.inference_mode()
def _generate_batch(
    model: Transformer,
    prompts: Sequence[np.ndarray],
    first_row: int,
    max_new_tokens: int,
    sampling: Sampling,
    dtype: torch.dtype,
) -> list[np.ndarray]:
    """Rows are aligned on the left; within the prompt of a row its units replace the drawn ones."""
    shape, device = model.shape, model.device
    starts = torch.tensor([len(prompt) + 1 for prompt in prompts])  # first generated position of each row
    length = int(starts.max()) + max_new_tokens
    tokens = torch.full((len(prompts), length), shape.pad)
    tokens[:, 0] = shape.eos
    for row, prompt in zip(tokens, prompts, strict=True):
        row[1 : len(prompt) + 1] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
    # Uniform random numbers of each row; the generator is seeded by row, so that rows are independent of the batch.
    generators = [np.random.default_rng([sampling.seed, first_row + i]) for i in range(len(prompts))]
    uniform = torch.from_numpy(np.stack([generator.random(max_new_tokens) for generator in generators]))
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    kv_cache = [KVCache(length) for _ in model.blocks]
    processed = 0
    for position in range(int(starts.min()), length):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(tokens[:, processed:position].to(device), kv_cache=kv_cache)[:, -1]
        processed = position
        logits[:, shape.pad] = -torch.inf
        uniform_R1 = uniform.gather(1, (position - starts).clamp(0, max_new_tokens - 1)[:, None])
        drawn = _draw(logits.float(), uniform_R1, sampling)
        generating = (position >= starts) & (position < starts + max_new_tokens) & ~ended
        tokens[generating, position] = drawn[generating]
        ended |= (generating & (drawn == shape.eos)) | (position + 1 >= starts + max_new_tokens)
        if ended.all():
            break
    return [
        _truncate_after_eos(row[start : start + max_new_tokens].numpy(), shape.eos)
        for row, start in zip(tokens, starts.tolist(), strict=True)
    ]


def _draw(logits_RV: Tensor, uniform_R1: Tensor, sampling: Sampling) -> Tensor:
    """One unit per row, int64 [R], by inverse transform sampling."""
    if sampling.temperature == 0:
        return logits_RV.argmax(dim=1).cpu()
    sorted_RV, units_RV = logits_RV.sort(dim=1, descending=True, stable=True)
    p_RV = (sorted_RV[:, : sampling.top_k].cpu().double() / sampling.temperature).softmax(dim=1)
    cumulative_before_RV = p_RV.cumsum(dim=1) - p_RV
    p_RV = p_RV.where(cumulative_before_RV < sampling.top_p, 0.0)
    cumulative_RV = p_RV.cumsum(dim=1)
    rank_R1 = (cumulative_RV <= uniform_R1 * cumulative_RV[:, -1:]).sum(dim=1, keepdim=True)
    last_rank_R1 = (p_RV > 0).sum(dim=1, keepdim=True) - 1
    return units_RV.cpu().gather(1, rank_R1.minimum(last_rank_R1))[:, 0]


def _truncate_after_eos(tokens: np.ndarray, eos: int) -> np.ndarray:
    ends = np.flatnonzero(tokens == eos)
    return tokens[: ends[0] + 1] if len(ends) else tokens


def _check_prompts(model: Transformer, prompts: Sequence[np.ndarray], max_new_tokens: int) -> None:
    shape = model.shape
    if max_new_tokens < 1:
        raise UserError(f"{max_new_tokens} units to generate; at least 1 is wanted.")
    for number, prompt in enumerate(prompts):
        if len(prompt) and (min(prompt) < 0 or max(prompt) >= shape.eos):
            raise UserError(
                f"prompt {number} has units from {min(prompt)} to {max(prompt)}; the model knows 0 to {shape.eos - 1}."
            )
        if len(prompt) + max_new_tokens > shape.context:
            raise UserError(
                f"prompt {number} of {len(prompt)} units and {max_new_tokens} more exceed the context of "
                f"{shape.context}; shorten the prompt or ask for fewer."
            )
