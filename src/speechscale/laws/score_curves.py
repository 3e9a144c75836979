"""Rising curves of a score between chance and a ceiling, against x = -loss or ln C, and the objective of their fit.

Every member is Q = chance + (ceiling - chance) F(k (x - m)) with F logistic (Dubey et al. 2024, section 3.2.1) or
Gompertz's exp(-exp(-eta)), which leaves chance faster than it nears the ceiling, and the ceiling is fitted.
Gadre et al. 2024 (arXiv 2403.08540) predict a score from the loss in the same two steps.

The fit moves in coordinates phi (..., 3) = (a, ln k', t): eta = a + k' (x - centre) / unit, and the ceiling is
chance + (cap - chance) / (1 + exp(-t)). All three have weak priors, because scores near chance leave some of them open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechscale.laws.minimise import Array, QuadraticModel
from speechscale.laws.pool import widened
from speechscale.laws.scores import Predictor, to_angle, to_score
from speechscale.records.score_law_sections import ScoreBacktest, ScoreCurveLaw

MAX_LOG_STEEPNESS = 30.0
MAX_EXPONENT = 40.0
MAX_SEARCH = 1e4  # x beyond the first member that reaches a score, in which the others are given up
BISECTIONS = 60

# Means and standard deviations of the priors. A run at the mean of x is some way up the curve. k' is the steepness per
# unit of x: for x = -loss the mean loss, for ln C one. The fitted ceiling is near 0.85 of the cap: few items of a
# benchmark are without fault. Runs and items of ordinary number outweigh all of them.
RISE_PRIOR = (-1.0, 2.0)
STEEPNESS_PRIORS: dict[Predictor, tuple[float, float]] = {
    "loss": (float(np.log(5.0)), 1.0),
    "compute": (float(np.log(0.25)), 1.0),
}
CEILING_PRIOR = (float(np.log(0.85 / 0.15)), 1.2)


@dataclass(frozen=True)
class Link:
    """F of eta with its first two derivatives, and its inverse."""

    formula: str
    derivatives: Callable[[Array], tuple[Array, Array, Array]]
    inverse: Callable[[Array], Array]


def _logistic(eta: Array) -> tuple[Array, Array, Array]:
    rise = sigmoid(eta)
    slope = rise * (1 - rise)
    return rise, slope, slope * (1 - 2 * rise)


def _gompertz(eta: Array) -> tuple[Array, Array, Array]:
    falling = np.exp(np.minimum(-eta, MAX_EXPONENT))
    rise = np.exp(-falling)
    slope = rise * falling
    return rise, slope, slope * (falling - 1)


LINKS: dict[str, Link] = {
    "logistic": Link("1 / (1 + exp(-eta))", _logistic, lambda share: np.log(share / (1 - share))),
    "gompertz": Link("exp(-exp(-eta))", _gompertz, lambda share: -np.log(-np.log(share))),
}


class ScoreObjective:
    """Half the weighted squares of residuals and of priors, of many problems at once, each with runs of its own.

    Each row of data is of one problem (see `pack`): scores (n,), targets of the three priors, x (n,) less its centre in
    its unit, chance, and the room from chance to the cap. Randomised scores and targets draw from the posterior
    (randomise-then-optimise; Bardsley et al. 2014).
    """

    def __init__(self, link: Link, runs: int, against: Predictor) -> None:
        self.link, self.runs = link, runs
        priors = np.array([RISE_PRIOR, STEEPNESS_PRIORS[against], CEILING_PRIOR])
        self.prior_mean, self.prior_sd = priors[:, 0], priors[:, 1]

    @staticmethod
    def pack(scores: Array, priors: Array, x: Array, chance: Array, cap: Array) -> Array:
        """The data (S, 2 n + 5) of S problems: scores and x (S, n), priors (S, 3), chance and cap (S,)."""
        return np.concatenate([scores, priors, x, np.stack([chance, cap - chance], axis=1)], axis=1)

    def __call__(self, phi: Array, data: Array, weights: Array, damping: Array) -> QuadraticModel:
        """The local models at S points; see `minimise.Objective`. Data as packed, weights (S, n)."""
        runs = self.runs
        terms = self._terms(phi, data)
        residual = terms.score - data[:, :runs]
        pull = weights * residual
        columns = np.stack([terms.slope, terms.slope * terms.rising, terms.by_top], axis=1)
        matrix = (columns * weights[:, None]) @ np.swapaxes(columns, 1, 2) * (1 + damping)[:, None, None]
        curvatures = {
            (0, 0): terms.bend,
            (0, 1): terms.bend * terms.rising,
            (1, 1): (terms.bend * terms.rising + terms.slope) * terms.rising,
            (0, 2): terms.slope * terms.left,
            (1, 2): terms.slope * terms.rising * terms.left,
            (2, 2): terms.by_top * (2 * terms.left - 1),
        }
        for (one, other), second in curvatures.items():
            curved = np.einsum("sn,sn->s", pull, second)
            matrix[:, one, other] += curved
            if one != other:
                matrix[:, other, one] += curved
        prior = (phi - self.prior_mean) / self.prior_sd - data[:, runs : runs + 3]
        matrix[:, range(3), range(3)] += (1 + damping)[:, None] / self.prior_sd**2
        value = 0.5 * (np.einsum("sn,sn->s", pull, residual) + np.einsum("sp,sp->s", prior, prior))
        gradient = np.einsum("sn,spn->sp", pull, columns) + prior / self.prior_sd
        return QuadraticModel(value, gradient, matrix)

    def value(self, point: Array, data: Array, weights: Array) -> Array:
        """The objective (S,) of every problem at one point (3,)."""
        phi = np.broadcast_to(point, (len(data), 3))
        prior = (phi - self.prior_mean) / self.prior_sd - data[:, self.runs : self.runs + 3]
        residual = self.predict(phi, data) - data[:, : self.runs]
        return np.asarray(
            0.5 * (np.einsum("sn,sn->s", weights * residual, residual) + np.sum(prior**2, axis=1))
        )

    def predict(self, phi: Array, data: Array) -> Array:
        """Scores (S, n) at the x of each problem, by phi (S, 3)."""
        return self._terms(phi, data).score

    def _terms(self, phi: Array, data: Array) -> _Terms:
        shift, log_steepness, top = (phi[:, k, None] for k in range(3))
        x = data[:, self.runs + 3 : -2]
        rising = np.exp(np.clip(log_steepness, -MAX_LOG_STEEPNESS, MAX_LOG_STEEPNESS)) * x
        share, slope, bend = self.link.derivatives(shift + rising)
        reached = sigmoid(top)
        span = data[:, -1:] * reached
        return _Terms(
            data[:, -2:-1] + span * share,
            rising,
            span * slope,
            span * bend,
            span * share * (1 - reached),
            1 - reached,
        )


@dataclass(frozen=True)
class _Terms:
    """A curve and its derivatives at S points and n runs, (S, n); left (S, 1)."""

    score: Array
    rising: Array  # k' x', the derivative of eta by ln k'
    slope: Array  # of the score by eta
    bend: Array  # second derivative
    by_top: Array  # derivative by t
    left: Array  # share of the room that the ceiling leaves


@dataclass(frozen=True)
class ScoreCurves:
    """The pooled curves of one score: those of the members in the first `points` rows, draws of them below.

    Attributes:
        floor: score of guessing.
        links: name of the link of each row.
        curves: rows of (midpoint, steepness, ceiling), (R, 3).
        noise: standard deviation of a new score around each row on the angular scale, (R,).
        points: number of members.
        scale: factor by which intervals are widened, from a backtest.
        backtested: whether a backtest gave the scale.
    """

    floor: float
    links: tuple[str, ...]
    curves: Array
    noise: Array
    points: int
    scale: float = 1.0
    backtested: bool = False

    @classmethod
    def from_section(cls, law: ScoreCurveLaw) -> ScoreCurves:
        """The curves of a law file."""
        members = {name: member for name, member in law.members.items() if member.weight > 0}
        counts = [len(member.draws.steepness) for member in members.values()]
        links = list(members)
        noise = [member.noise for member in members.values()]
        rows = [member.params for member in members.values()], [member.draws for member in members.values()]
        curves = np.concatenate(
            [
                np.column_stack([np.atleast_1d(np.asarray(value, float)) for _, value in params])
                for part in rows
                for params in part
            ]
        )
        curves[:, 0] = -curves[:, 0] if law.against == "loss" else np.log(np.maximum(curves[:, 0], 1e-300))
        return cls(
            law.floor,
            (*links, *np.repeat(links, counts).tolist()),
            curves,
            np.array([*noise, *np.repeat(noise, counts)]),
            len(members),
            law.scale,
            isinstance(law.backtest, ScoreBacktest),
        )

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.curves) - self.points

    def score(self, x: Array, rows: Array | slice = slice(None)) -> Array:
        """Scores (R, n) by some rows at x, (n,) or (R, n)."""
        midpoint, steepness, ceiling = self.curves[rows].T[..., None]
        eta = steepness * (x - midpoint)
        share = np.empty(eta.shape)
        links = np.array(self.links)[rows]
        for name in set(self.links):
            own = links == name
            share[own] = LINKS[name].derivatives(eta[own])[0]
        return np.asarray(self.floor + (ceiling - self.floor) * share)

    def centre(self, x: Array) -> Array:
        """The score (n,) at x (n,): the median over the members."""
        return to_score(np.median(to_angle(self.score(x, slice(self.points))), axis=0))

    def centre_angles(self, x: Array) -> Array:
        """The centre (...) at x (...) on the angular scale."""
        return to_angle(self.centre(np.ravel(x))).reshape(np.shape(x))

    def at(self, score: float) -> Array:
        """The x (R,) at which each curve reaches a score; infinite where its ceiling is below the score."""
        midpoint, steepness, ceiling = self.curves.T
        share = (score - self.floor) / np.maximum(ceiling - self.floor, 1e-300)
        found = np.full(len(share), np.inf)
        for row, name in enumerate(self.links):
            if share[row] < 1:
                found[row] = midpoint[row] + LINKS[name].inverse(share[row]) / steepness[row]
        return found

    def drawn_at(self, score: float) -> Array:
        """Draws (S,) of the x at which a score is reached, moved away from its centre by `scale`."""
        drawn, centre = self.at(score)[self.points :], self.centre_at(score)
        return widened(drawn, np.array(centre), self.scale) if np.isfinite(centre) else drawn

    def centre_at(self, score: float) -> float:
        """The x at which the median of the members reaches a score; infinite where it never does."""
        ends = np.sort(self.at(score)[: self.points])
        low, high = ends[0], ends[len(ends) // 2]  # half of the members or more have reached it there
        if not np.isfinite(low):
            return float("inf")
        if not np.isfinite(high):
            high = low + 1.0
            while self.centre(np.array([high]))[0] < score:
                high += 2 * (high - low)
                if high - low > MAX_SEARCH:
                    return float("inf")
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self.centre(np.array([middle]))[0] >= score else (middle, high)
        return float(high)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
