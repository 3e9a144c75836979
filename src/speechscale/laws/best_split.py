"""The best split of a budget by every row of a law with draws, and the least budget for a loss, under constraints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws import allocation
from speechscale.laws.draws import LawDraws
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN

LOG_SIZES = np.linspace(-9.0, 9.0, 361)  # ln N tried, around the best split without repetition
LOG_BUDGETS = np.log(10.0) * np.linspace(0.0, 36.0, 289)  # ln FLOPs searched for a goal under constraints


@dataclass(frozen=True)
class Split:
    """Ln of parameters, tokens and FLOPs, and ln L, each (S,) over the rows of a law."""

    log_n: Array
    log_d: Array
    log_c: Array
    log_loss: Array


def best_split(
    law: LawDraws, log_c: Array, unique_tokens: float | None = None, params: float | None = None
) -> Split:
    """The best split of a budget for every row of a law.

    Args:
        law: the law with draws.
        log_c: ln of the budget in FLOPs, (S,).
        unique_tokens: that there are; every token is seen once when None.
        params: the model size, where it is fixed.
    """
    log_nd = log_c - np.log(FLOPS_PER_PARAM_TOKEN)
    if params is not None:
        log_n = np.full_like(log_c, np.log(params))
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            log_n, _ = allocation.log_optimum(law.theta[:, :7], np.exp(log_c))
    if unique_tokens is None:
        return _split_at(law, log_n, log_nd, None)
    log_unique = np.full((len(log_c), 1), np.log(unique_tokens))
    if params is None:
        sizes = log_n[:, None] + LOG_SIZES
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            losses = law.log_loss(sizes, log_nd[:, None] - sizes, log_unique)
        best = np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=1)
        log_n = sizes[np.arange(len(sizes)), best]
    return _split_at(law, log_n, log_nd, log_unique)


def _split_at(law: LawDraws, log_n: Array, log_nd: Array, log_unique: Array | None) -> Split:
    """The split of a budget, ln (N D) (S,), at given sizes, ln N (S,)."""
    log_d = log_nd - log_n
    losses = law.log_loss(log_n[:, None], log_d[:, None], log_unique)[:, 0]
    return Split(log_n, log_d, log_nd + np.log(FLOPS_PER_PARAM_TOKEN), losses)


def log_budget_for(
    law: LawDraws, loss: Array, unique_tokens: float | None = None, params: float | None = None
) -> Array:
    """Ln of the least budget (S,) that reaches a loss; infinite where none does.

    Args:
        law: the law with draws.
        loss: (S,).
        unique_tokens: that there are; every token is seen once when None.
        params: the model size, where it is fixed.
    """
    if unique_tokens is None and params is None:
        with np.errstate(divide="ignore"):
            return np.log(allocation.flops_for(law.theta[:, :7], loss))
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = np.log(loss)
    reached = np.stack(
        [best_split(law, np.full(len(loss), log_c), unique_tokens, params).log_loss for log_c in LOG_BUDGETS],
        axis=1,
    )  # (S, budgets)
    least = np.minimum.accumulate(np.where(np.isfinite(reached), reached, np.inf), axis=1)
    enough = least <= goal[:, None]
    first = np.argmax(enough, axis=1)
    row = np.arange(len(loss))
    before = np.maximum(first - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (least[row, before] - goal) / (least[row, before] - least[row, first])
    log_c = LOG_BUDGETS[before] + np.clip(np.nan_to_num(share), 0, 1) * (
        LOG_BUDGETS[first] - LOG_BUDGETS[before]
    )
    return np.where(enough.any(axis=1), log_c, np.inf)
