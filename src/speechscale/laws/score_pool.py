"""The law of a score: curves pooled in equal parts, backtested on the cheaper runs, with the widening that this gives.

No curve is true, and which one forecasts best is not known from cheap runs. Everything here is on the angular scale
(`scores.to_angle`), on which the noise of items is the same at every score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechscale.laws.backtest import BACKTEST_DRAWS, FACTORS, BacktestSplit, Rows, is_cheaper, widening
from speechscale.laws.minimise import Array
from speechscale.laws.score_curves import LINKS, ScoreCurves
from speechscale.laws.score_fit import ScoreFit, ScoreProblem, fit_scores
from speechscale.laws.scores import ScorePoints, to_angle
from speechscale.records.seeds import spawn

MIN_CHEAPER_RUNS = 5
MIN_VALUES = 3  # distinct x of the cheaper runs
RISE_CHI2 = (
    3.84  # by which a curve must fit better than chance does: the 95 % quantile of chi2 with one degree
)


@dataclass(frozen=True)
class ScoreRequest:
    """A score to fit: its points, the best score possible, draws of all members together, and their seed."""

    points: ScorePoints
    cap: float
    draws: int
    seed: int


@dataclass(frozen=True)
class ScorePool:
    """The pooled law of one score.

    Attributes:
        points: that it was fitted to.
        fits: the members that converged.
        left_out: the others.
        curves: the members with their draws, and the widening.
        splits: of the backtest, on the angular scale.
    """

    points: ScorePoints
    fits: list[ScoreFit]
    left_out: list[ScoreFit]
    curves: ScoreCurves
    splits: list[BacktestSplit]


def fit_score_pools(requests: Sequence[ScoreRequest]) -> list[ScorePool | None]:
    """Fit and backtest the law of every score, all in one batch.

    Returns:
        None for a score that no rising curve fits better than chance does.
    """
    problems: list[ScoreProblem] = []
    splits: list[list[tuple[float, Rows, Rows]]] = []
    for request in requests:
        splits.append(score_splits(request.points))
        problems.append(_problem(request, request.points, request.draws, "fit"))
        problems += [
            _problem(request, request.points.take(cheaper), BACKTEST_DRAWS, f"backtest {factor:g}")
            for factor, cheaper, _ in splits[-1]
        ]
    fits = iter(fit_scores(problems))
    return [
        _pool(request, next(fits), own, [next(fits) for _ in own])
        for request, own in zip(requests, splits, strict=True)
    ]


def score_splits(points: ScorePoints) -> list[tuple[float, Rows, Rows]]:
    """Factor, rows of the runs with C <= C_max/factor, and rows of the others, for every split that the runs allow."""
    found: list[tuple[float, Rows, Rows]] = []
    for factor in FACTORS:
        cheap = is_cheaper(points.flops, points.flops.max(), factor)
        cheaper, dearer = np.flatnonzero(cheap), np.flatnonzero(~cheap)
        too_few = len(cheaper) < MIN_CHEAPER_RUNS or len(np.unique(points.x[cheaper])) < MIN_VALUES
        if not too_few and not any(np.array_equal(cheaper, other) for _, other, _ in found):
            found.append((factor, cheaper, dearer))
    return found


def pooled_curves(
    floor: float, fits: Sequence[ScoreFit], scale: float = 1.0, backtested: bool = False
) -> ScoreCurves:
    """The curves of fitted members with their draws."""
    counts = [len(fit.draws) for fit in fits]
    owners = [*range(len(fits)), *np.repeat(range(len(fits)), counts)]
    return ScoreCurves(
        floor,
        tuple(fits[owner].member for owner in owners),
        np.concatenate([np.stack([fit.curve for fit in fits]), *(fit.draws for fit in fits)]),
        np.array([fits[owner].noise for owner in owners]),
        len(fits),
        scale,
        backtested,
    )


def new_score_angles(curves: ScoreCurves, x: Array, rng: np.random.Generator) -> Array:
    """Angles (S, n) of new scores at x (n,), by the draws of the curves, before any widening."""
    drawn = to_angle(curves.score(x, slice(curves.points, None)))
    return np.asarray(drawn + curves.noise[curves.points :, None] * rng.standard_normal(drawn.shape))


def _problem(request: ScoreRequest, points: ScorePoints, draws: int, purpose: str) -> ScoreProblem:
    share = -(-draws // len(LINKS))
    return ScoreProblem(points, request.cap, share, np.random.default_rng(spawn(request.seed, purpose)))


def _pool(
    request: ScoreRequest,
    found: list[ScoreFit],
    splits: list[tuple[float, Rows, Rows]],
    split_fits: list[list[ScoreFit]],
) -> ScorePool | None:
    fits, points = _converged(found), request.points
    flat = float(np.sum((points.score - points.chance) ** 2 / points.variance))
    if not any(flat - fit.chi2 > RISE_CHI2 * fit.dispersion for fit in fits):
        return None
    backtested = [
        _split(request, *split, _converged(own))
        for split, own in zip(splits, split_fits, strict=True)
        if _converged(own)
    ]
    curves = pooled_curves(
        points.chance, fits, widening(backtested, to_angle(points.score)), bool(backtested)
    )
    return ScorePool(points, fits, [fit for fit in found if not fit.converged], curves, backtested)


def _converged(fits: list[ScoreFit]) -> list[ScoreFit]:
    return [fit for fit in fits if fit.converged]


def _split(
    request: ScoreRequest, factor: float, cheaper: Rows, dearer: Rows, fits: list[ScoreFit]
) -> BacktestSplit:
    points = request.points
    curves = pooled_curves(points.chance, fits)
    x = points.x[dearer]
    return BacktestSplit(
        factor,
        cheaper,
        dearer,
        points.flops[dearer] / points.flops[cheaper].max(),
        {
            fit.member: to_angle(row)
            for fit, row in zip(fits, curves.score(x, slice(curves.points)), strict=True)
        },
        curves.centre_angles(x),
        new_score_angles(curves, x, np.random.default_rng(spawn(request.seed, f"new scores {factor:g}"))),
    )
