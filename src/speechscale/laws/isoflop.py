"""IsoFLOP minima: at each budget a parabola of loss over ln N, refused where the runs do not bracket its minimum.

Source: Hoffmann et al. 2022, section 3.2 (approach 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN

MIN_SIZES = 4  # a parabola through three sizes fits exactly, whatever their losses
SAME_BUDGET = 0.1  # relative difference in FLOPs up to which runs share a budget
INTERPOLATED_BUDGETS = 7  # where runs share no budget


@dataclass(frozen=True)
class IsoflopMinimum:
    """The best size at one budget, or why there is none."""

    flops: float
    sizes: int
    params: float | None = None
    tokens: float | None = None
    loss: float | None = None
    refused: str | None = None


@dataclass(frozen=True)
class IsoflopFit:
    """The minima of all budgets and the split through them."""

    minima: list[IsoflopMinimum]
    split: dict[str, float] | None  # a, b and G of N = G (C/6)^a, D = (C/6)^b / G
    missing: str = ""  # why there is no split


def fit_isoflop(ladder: Ladder) -> IsoflopFit:
    """Find the minimum of each budget, and fit the split N_opt(C) through the bracketed ones."""
    slices = _slices(ladder) if len(ladder) else []
    minima = [_isoflop_minimum(flops, log_n, loss) for flops, log_n, loss in slices]
    bracketed = [m for m in minima if m.refused is None]
    if len(bracketed) < 2:
        return IsoflopFit(
            minima,
            None,
            f"{len(bracketed)} of {len(minima)} budgets have a bracketed minimum; 2 are the least",
        )
    log_c = np.log([m.flops / FLOPS_PER_PARAM_TOKEN for m in bracketed])
    log_n = np.log([m.params for m in bracketed if m.params is not None])
    a, intercept = np.polyfit(log_c, log_n, 1)
    return IsoflopFit(minima, {"a": float(a), "b": float(1 - a), "G": float(np.exp(intercept))})


def draw_exponents(ladder: Ladder, noise: float, count: int, seed: int) -> Array:
    """Exponent a (count,) under fresh noise on every ln loss; NaN where fewer than two minima are bracketed.

    Args:
        ladder: the runs.
        noise: standard deviation of ln loss around the single-epoch law.
        count: number of draws.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    fits = (
        fit_isoflop(replace(ladder, loss=ladder.loss * np.exp(noise * rng.standard_normal(len(ladder)))))
        for _ in range(count)
    )
    return np.array([fit.split["a"] if fit.split else np.nan for fit in fits])


def _slices(ladder: Ladder) -> list[tuple[float, Array, Array]]:
    """(budget, ln N, loss) at budgets that runs share; where they share none, by interpolation along each size."""
    order = np.argsort(ladder.flops)
    breaks = np.flatnonzero(np.diff(np.log(ladder.flops[order])) > np.log1p(SAME_BUDGET)) + 1
    shared = [rows for rows in np.split(order, breaks) if len(np.unique(ladder.params[rows])) >= MIN_SIZES]
    spread = [np.ptp(np.log(ladder.flops[rows])) for rows in shared]
    if shared and max(spread) < 2 * SAME_BUDGET:
        return [
            (float(np.exp(np.log(ladder.flops[rows]).mean())), ladder.log_n[rows], ladder.loss[rows])
            for rows in shared
        ]
    return _interpolated(ladder)


def _interpolated(ladder: Ladder) -> list[tuple[float, Array, Array]]:
    log_c = np.log(ladder.flops)
    slices = []
    for budget in np.linspace(log_c.min(), log_c.max(), INTERPOLATED_BUDGETS + 2)[1:-1]:
        sizes, losses = [], []
        for size in np.unique(ladder.params):
            own = np.flatnonzero(ladder.params == size)
            own = own[np.argsort(log_c[own])]
            if len(own) > 1 and log_c[own[0]] <= budget <= log_c[own[-1]]:
                sizes.append(np.log(size))
                losses.append(np.exp(np.interp(budget, log_c[own], ladder.log_loss[own])))
        slices.append((float(np.exp(budget)), np.array(sizes), np.array(losses)))
    return slices


def _isoflop_minimum(flops: float, log_n: Array, loss: Array) -> IsoflopMinimum:
    sizes = len(np.unique(log_n))
    if sizes < MIN_SIZES:
        return IsoflopMinimum(
            flops, sizes, refused=f"{sizes} sizes have a loss at this budget; {MIN_SIZES} are the least"
        )
    centre = log_n.mean()
    square, slope, level = np.polyfit(log_n - centre, loss, 2)
    best = int(np.argmin(loss))
    if square <= 0:
        return IsoflopMinimum(flops, sizes, refused="the losses do not bend upwards, so no size is best")
    vertex = centre - slope / (2 * square)
    edge = log_n[best] in (log_n.min(), log_n.max())
    if edge or not log_n.min() < vertex < log_n.max():
        side = "smallest" if vertex <= centre else "largest"
        return IsoflopMinimum(
            flops, sizes, refused=f"not bracketed: the best loss is at the {side} size of this budget"
        )
    params = float(np.exp(vertex))
    tokens = flops / FLOPS_PER_PARAM_TOKEN / params
    return IsoflopMinimum(flops, sizes, params, tokens, float(level - slope**2 / (4 * square)))
