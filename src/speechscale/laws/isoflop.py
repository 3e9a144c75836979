"""IsoFLOP minima: at each budget a parabola of loss over ln N, refused where the runs do not bracket its minimum.

Runs are grouped by their FLOPs, which need not be 6 N D, and the tokens of a minimum are those of the runs beside it.
Source: Hoffmann et al. 2022, section 3.2 (approach 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN

MIN_SIZES = 4  # a parabola through three sizes fits exactly, whatever their losses
SAME_BUDGET = 0.1  # relative difference in FLOPs up to which runs share a budget
INTERPOLATED_BUDGETS = 7  # where runs share no budget


@dataclass(frozen=True)
class IsoflopSlice:
    """Runs at one budget, or interpolated to it: ln N, ln D and loss, (n,) each."""

    flops: float
    log_n: Array
    log_d: Array
    loss: Array

    @property
    def sizes(self) -> int:
        """Number of different sizes."""
        return len(np.unique(self.log_n))


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
    split: dict[str, float] | None  # a, b and G of N = G (C/6)^a and D ~ C^b; b = 1 - a where C = 6 N D
    missing: str = ""  # why there is no split
    slices: list[IsoflopSlice] = field(default_factory=list)


def fit_isoflop(ladder: Ladder, flops: Array | None = None) -> IsoflopFit:
    """Find the minimum of each budget, and fit the split N_opt(C) through the bracketed ones.

    Args:
        ladder: the n runs.
        flops: of each run, (n,); 6 N D when None.
    """
    slices = _slices(ladder, ladder.flops if flops is None else flops) if len(ladder) else []
    minima = [_isoflop_minimum(one) for one in slices]
    bracketed = [m for m in minima if m.params is not None and m.tokens is not None]
    if len(bracketed) < 2:
        missing = f"{len(bracketed)} of {len(minima)} budgets have a bracketed minimum; 2 are the least"
        return IsoflopFit(minima, None, missing, slices)
    log_c = np.log([m.flops / FLOPS_PER_PARAM_TOKEN for m in bracketed])
    a, intercept = np.polyfit(log_c, np.log([m.params or np.nan for m in bracketed]), 1)
    b, _ = np.polyfit(log_c, np.log([m.tokens or np.nan for m in bracketed]), 1)
    split = {"a": float(a), "b": float(b), "G": float(np.exp(intercept))}
    return IsoflopFit(minima, split, slices=slices)


@dataclass(frozen=True)
class IsoflopDraws:
    """Draws of the exponents (S,), and of ln N_opt (S, B) at each budget; NaN where a minimum is not bracketed."""

    a: Array
    b: Array
    log_n: Array


def draw_minima(ladder: Ladder, flops: Array | None, noise: float, count: int, seed: int) -> IsoflopDraws:
    """Minima under fresh noise on every ln loss; exponents are NaN where fewer than two are bracketed.

    Args:
        ladder: the n runs.
        flops: of each run, (n,); 6 N D when None.
        noise: standard deviation of ln loss around the single-epoch law.
        count: number of draws.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    fits = [
        fit_isoflop(
            replace(ladder, loss=ladder.loss * np.exp(noise * rng.standard_normal(len(ladder)))), flops
        )
        for _ in range(count)
    ]
    return IsoflopDraws(
        np.array([fit.split["a"] if fit.split else np.nan for fit in fits]),
        np.array([fit.split["b"] if fit.split else np.nan for fit in fits]),
        np.log([[m.params or np.nan for m in fit.minima] for fit in fits]),
    )


def law_minima(slices: Sequence[IsoflopSlice], log_losses: Sequence[Array]) -> Array:
    """Ln N_opt (R, B): the same parabolas through the losses that a law gives the same runs.

    So what a parabola misses of the law's own shape is in both. NaN where the losses do not bend upwards.

    Args:
        slices: of B budgets.
        log_losses: ln L (R, n) of the runs of each slice by the R rows of a law.
    """
    found = []
    for one, log_loss in zip(slices, log_losses, strict=True):
        centre = one.log_n.mean()
        square, slope, _ = np.polyfit(one.log_n - centre, np.exp(log_loss).T, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(square > 0, centre - slope / (2 * square), np.nan))
    return np.stack(found, axis=1)


def _slices(ladder: Ladder, flops: Array) -> list[IsoflopSlice]:
    """Budgets that runs share; where they share none, budgets between them, by interpolation along each size."""
    order = np.argsort(flops)
    breaks = np.flatnonzero(np.diff(np.log(flops[order])) > np.log1p(SAME_BUDGET)) + 1
    shared = [rows for rows in np.split(order, breaks) if len(np.unique(ladder.params[rows])) >= MIN_SIZES]
    spread = [np.ptp(np.log(flops[rows])) for rows in shared]
    if shared and max(spread) < 2 * SAME_BUDGET:
        return [
            IsoflopSlice(
                float(np.exp(np.log(flops[rows]).mean())),
                ladder.log_n[rows],
                ladder.log_d[rows],
                ladder.loss[rows],
            )
            for rows in shared
        ]
    return _interpolated(ladder, np.log(flops))


def _interpolated(ladder: Ladder, log_c: Array) -> list[IsoflopSlice]:
    slices = []
    for budget in np.linspace(log_c.min(), log_c.max(), INTERPOLATED_BUDGETS + 2)[1:-1]:
        points = []
        for size in np.unique(ladder.params):
            own = np.flatnonzero(ladder.params == size)
            own = own[np.argsort(log_c[own])]
            if len(own) > 1 and log_c[own[0]] <= budget <= log_c[own[-1]]:
                log_d, log_loss = (
                    np.interp(budget, log_c[own], column[own]) for column in (ladder.log_d, ladder.log_loss)
                )
                points.append((np.log(size), log_d, np.exp(log_loss)))
        slices.append(IsoflopSlice(float(np.exp(budget)), *np.array(points).reshape(-1, 3).T))
    return slices


def _isoflop_minimum(runs: IsoflopSlice) -> IsoflopMinimum:
    flops, log_n, loss, sizes = runs.flops, runs.log_n, runs.loss, runs.sizes
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
    order = np.argsort(log_n)
    tokens = float(np.exp(np.interp(vertex, log_n[order], runs.log_d[order])))
    return IsoflopMinimum(flops, sizes, float(np.exp(vertex)), tokens, float(level - slope**2 / (4 * square)))
