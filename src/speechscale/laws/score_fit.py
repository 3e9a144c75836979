"""Fit of the members of the score pool to many scores and backtests in one batch, and draws of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from speechscale.laws.backtest import Rows
from speechscale.laws.minimise import Array, NewtonSettings, minimise
from speechscale.laws.score_curves import (
    LINKS,
    ScoreObjective,
    sigmoid,
)
from speechscale.laws.scores import ScorePoints
from speechscale.laws.single_epoch import GRADIENT_TOLERANCE

ROUGH = NewtonSettings(tolerance=1e-6, max_steps=40)
FINE = NewtonSettings(damping=0.1, tolerance=1e-12, max_steps=60)
DRAW = NewtonSettings(damping=0.1, tolerance=1e-6, max_steps=15)
START_SHIFTS = (-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 3.0)
START_STEEPNESS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # ln k' above the mean of its prior
PARAMETERS = 3
KEPT_STARTS = 2  # of the grid, from which a problem descends
GROUP = 20_000_000  # numbers that the draws of one batch of problems may hold


@dataclass(frozen=True)
class ScoreProblem:
    """One fit: the points, the best score possible, and the random stream of its `draws` draws."""

    points: ScorePoints
    cap: float
    draws: int
    rng: np.random.Generator


@dataclass(frozen=True)
class ScoreFit:
    """One member fitted to one problem.

    Attributes:
        member: its name.
        curve: (midpoint, steepness, ceiling), (3,).
        draws: the same, (S, 3).
        dispersion: residual over binomial variance, 1 at least where the number of items is known.
        noise: standard deviation of a new score on the angular scale.
        chi2: sum of squared residuals over variances, not scaled by the dispersion.
        converged: whether the gradient is zero at the curve.
    """

    member: str
    curve: Array
    draws: Array
    dispersion: float
    noise: float
    chi2: float
    converged: bool


def fit_scores(problems: Sequence[ScoreProblem]) -> list[list[ScoreFit]]:
    """Fit every member of the pool to every problem; problems against the same predictor share a batch."""
    found: list[list[ScoreFit]] = [[] for _ in problems]
    for name, against in product(LINKS, ("loss", "compute")):
        rows = [row for row, problem in enumerate(problems) if problem.points.against == against]
        for group in _groups(rows, problems):
            fits = _fit_member(name, [problems[row] for row in group])
            for row, fit in zip(group, fits, strict=True):
                found[row].append(fit)
    return found


def _groups(rows: Iterable[int], problems: Sequence[ScoreProblem]) -> Iterator[list[int]]:
    """Rows in groups whose draws fit into memory; problems of a like number of runs waste least by padding."""
    group: list[int] = []
    held = 0
    for row in sorted(rows, key=lambda row: len(problems[row].points.x)):
        size = 2 * len(problems[row].points.x) * max(problems[row].draws, 1)
        if group and held + size > GROUP:
            yield group
            group, held = [], 0
        group.append(row)
        held += size
    if group:
        yield group


@dataclass(frozen=True)
class _Batch:
    """P problems, padded to n runs by runs of weight 0: arrays (P, n), (P,)."""

    x: Array
    scores: Array
    weights: Array
    chance: Array
    cap: Array
    centre: Array
    unit: Array
    freedom: Array

    @classmethod
    def of(cls, problems: Sequence[ScoreProblem]) -> _Batch:
        """The problems of one predictor."""
        runs = max(len(problem.points.x) for problem in problems)
        x, scores, weights = (np.zeros((len(problems), runs)) for _ in range(3))
        centre, unit = np.zeros(len(problems)), np.ones(len(problems))
        for row, points in enumerate(problem.points for problem in problems):
            own = slice(len(points.x))
            centre[row] = points.x.mean()
            if points.against == "loss":
                unit[row] = np.abs(centre[row])
            x[row, own] = (points.x - centre[row]) / unit[row]
            scores[row, own], weights[row, own] = points.score, 1 / points.variance
        freedom = np.array([max(len(problem.points.x) - PARAMETERS, 1) for problem in problems], float)
        chance = np.array([problem.points.chance for problem in problems])
        cap = np.array([problem.cap for problem in problems])
        return cls(x, scores, weights, chance, cap, centre, unit, freedom)

    def data(self, rows: Rows, scores: Array, priors: Array) -> Array:
        """Packed data of some rows with other scores (S, n) and targets of the priors (S, 3)."""
        return ScoreObjective.pack(scores, priors, self.x[rows], self.chance[rows], self.cap[rows])

    def repeated(self, rows: Rows) -> Array:
        """Packed data of some rows as observed."""
        return self.data(rows, self.scores[rows], np.zeros((len(rows), 3)))

    def curves(self, phi: Array, rows: Rows) -> Array:
        """(midpoint, steepness, ceiling) (S, 3) of phi (S, 3) of some rows."""
        steepness = np.exp(phi[:, 1]) / self.unit[rows]
        ceiling = self.chance[rows] + (self.cap[rows] - self.chance[rows]) * sigmoid(phi[:, 2])
        return np.stack([self.centre[rows] - phi[:, 0] / steepness, steepness, ceiling], axis=1)


def _fit_member(name: str, problems: Sequence[ScoreProblem]) -> list[ScoreFit]:
    batch = _Batch.of(problems)
    against = problems[0].points.against
    objective = ScoreObjective(LINKS[name], batch.x.shape[1], against)
    every = np.arange(len(problems))
    observed = batch.repeated(every)

    def chi2(phi: Array) -> Array:
        return np.asarray(
            np.sum(batch.weights * (objective.predict(phi, observed) - batch.scores) ** 2, axis=1)
        )

    phi = _search(objective, batch)
    least = np.array([1.0 if problem.points.has_items else 1e-6 for problem in problems])
    dispersion = np.maximum(chi2(phi) / batch.freedom, least)
    fine = minimise(objective, phi, observed, batch.weights / dispersion[:, None], settings=FINE)
    phi = fine.theta
    dispersion = np.maximum(chi2(phi) / batch.freedom, least)
    drawn = _draw(objective, batch, problems, phi, dispersion)
    curves, misfit = batch.curves(phi, every), chi2(phi)
    return [
        ScoreFit(
            name,
            curves[row],
            drawn[row],
            float(dispersion[row]),
            float(0.5 * np.sqrt(dispersion[row] / problem.points.usual_items)),
            float(misfit[row]),
            bool(fine.gradient[row] < GRADIENT_TOLERANCE),
        )
        for row, problem in enumerate(problems)
    ]


def _search(objective: ScoreObjective, batch: _Batch) -> Array:
    """Phi (P, 3) at the least of the minima that the best points of a grid of starts lead to."""
    _, usual, top = objective.prior_mean
    grid = np.array(
        [[shift, usual + steepness, top] for shift, steepness in product(START_SHIFTS, START_STEEPNESS)]
    )
    count = len(batch.x)
    values = np.stack(
        [objective.value(point, batch.repeated(np.arange(count)), batch.weights) for point in grid]
    )
    near = np.argsort(values, axis=0, kind="stable")[:KEPT_STARTS]  # (starts, P)
    rows = np.tile(np.arange(count), KEPT_STARTS)
    found = minimise(
        objective,
        grid[near.ravel()],
        batch.repeated(rows),
        batch.weights[rows],
        settings=ROUGH,
    )
    best = np.nanargmin(found.value.reshape(KEPT_STARTS, count), axis=0)
    return np.asarray(found.theta.reshape(KEPT_STARTS, count, 3)[best, np.arange(count)])


def _draw(
    objective: ScoreObjective,
    batch: _Batch,
    problems: Sequence[ScoreProblem],
    phi: Array,
    dispersion: Array,
) -> list[Array]:
    """Draws (S, 3) of the curve of each problem under the noise of items and of runs.

    The noise of one draw shares a random scale, because the dispersion is itself an estimate.
    """
    counts = [problem.draws for problem in problems]
    rows = np.repeat(np.arange(len(problems)), counts)
    if not len(rows):
        return [np.empty((0, 3)) for _ in problems]
    noise, priors = np.zeros((len(rows), batch.x.shape[1])), np.empty((len(rows), 3))
    for row, problem in enumerate(problems):
        own, runs = rows == row, len(problem.points.x)
        scale = np.sqrt(batch.freedom[row] / problem.rng.chisquare(batch.freedom[row], problem.draws))
        deviation = np.sqrt(dispersion[row] / batch.weights[row, :runs])
        noise[own, :runs] = problem.rng.standard_normal((problem.draws, runs)) * deviation * scale[:, None]
        priors[own] = problem.rng.standard_normal((problem.draws, 3))
    found = minimise(
        objective,
        phi[rows],
        batch.data(rows, batch.scores[rows] + noise, priors),
        batch.weights[rows] / dispersion[rows, None],
        settings=DRAW,
    )
    return np.split(batch.curves(found.theta, rows), np.cumsum(counts)[:-1])
