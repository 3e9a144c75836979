"""Forms that tie a score to loss or to compute, and their fit with binomial weights.

Linear and power-law forms: Cuervo and Marxer 2024. The saturating form is a logistic between chance and a ceiling,
Q = floor + (ceiling - floor) / (1 + exp(-k (x - m))), with x = -loss or ln C (Dubey et al. 2024, section 3.2.1;
Gadre et al. 2024, arXiv 2403.08540, predict a score from the loss in the same two steps). Arrays are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.minimise import Array, QuadraticModel, minimise

CEILING = 1.0


@dataclass(frozen=True)
class ScorePoints:
    """Scores of n runs against x = -loss or ln C: x (n,), score (n,) in [0, 1], its variance (n,), and chance."""

    x: Array
    score: Array
    variance: Array
    chance: float

    @property
    def weights(self) -> Array:
        """Inverse variances, (n,)."""
        return 1.0 / self.variance


def binomial_variance(score: Array, items: Array) -> Array:
    """Variance (n,) of a share of right answers; shrunk towards 1/2 (Agresti and Coull), so that it is never 0."""
    shrunk = (score * items + 2) / (items + 4)
    return shrunk * (1 - shrunk) / items


class LogisticObjective:
    """The weighted squared error of the saturating form, for many theta at once.

    theta (S, 3) = (c, ln k, ceiling logit): eta = k x - c with x standardised, ceiling = chance + (1 - chance) sigma.
    """

    def __init__(self, x: Array, chance: float) -> None:
        self.x, self.chance = x, chance

    def __call__(self, theta: Array, score: Array, weights: Array, damping: Array) -> QuadraticModel:
        """The local models at S points; see `minimise.Objective` for the shapes."""
        value, jacobian = self.predict(theta)
        residual = value - score
        transposed = np.swapaxes(jacobian, 1, 2)
        gram = transposed @ (weights[..., None] * jacobian)
        return QuadraticModel(
            0.5 * np.einsum("sn,sn->s", weights * residual, residual),
            np.einsum("sn,snp->sp", weights * residual, jacobian),
            gram * (1 + damping[:, None, None]),
        )

    def predict(self, theta: Array) -> tuple[Array, Array]:
        """Scores (S, n) and their derivatives by theta (S, n, 3)."""
        shift, log_k, top = (theta[:, k, None] for k in range(3))
        steepness = np.exp(np.clip(log_k, -30, 30))
        rise = _sigmoid(steepness * self.x - shift)
        span = (1 - self.chance) * _sigmoid(top)
        slope = span * rise * (1 - rise)
        columns = [-slope, slope * steepness * self.x, span * rise * (1 - _sigmoid(top))]
        return self.chance + span * rise, np.stack(columns, axis=-1)


@dataclass(frozen=True)
class SaturatingCurves:
    """A fitted logistic in row 0 and draws of it below: rows of (midpoint, steepness k, ceiling)."""

    floor: float
    curves: Array  # (S, 3)
    dispersion: (
        float  # residual over binomial variance; above 1 where runs differ by more than their items explain
    )

    def score(self, x: Array, row: int | slice = 0) -> Array:
        """The score at x by one curve or several."""
        return logistic(x, self.floor, *np.moveaxis(self.curves[row], -1, 0))

    def at(self, score: float) -> Array:
        """The x (S,) at which each curve reaches a score; infinite where its ceiling is below the score."""
        midpoint, steepness, ceiling = self.curves.T
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (score - self.floor) / (ceiling - self.floor)
            return np.where(share < 1, midpoint + np.log(share / (1 - share)) / steepness, np.inf)


def logistic(x: Array, floor: float, midpoint: Array, steepness: Array, ceiling: Array) -> Array:
    """A logistic between floor and ceiling.

    Args:
        x: -loss or ln C, of any shape that broadcasts with the parameters.
        floor: score of guessing.
        midpoint: x halfway between floor and ceiling.
        steepness: k.
        ceiling: best score possible.
    """
    return floor + (ceiling - floor) * _sigmoid(steepness * (x - midpoint))


def fit_saturating(
    data: ScorePoints, *, ceiling: float | None = CEILING, draws: int = 0, seed: int = 0
) -> SaturatingCurves | None:
    """Fit the saturating form, and `draws` of it under the noise of items and of runs.

    Args:
        data: scores of n runs.
        ceiling: best score possible; None to fit it.
        draws: how many, S.
        seed: of the noise.

    Returns:
        None where no rising curve fits better than chance does.
    """
    centre, spread = data.x.mean(), max(float(data.x.std()), 1e-12)
    form = LogisticObjective((data.x - centre) / spread, data.chance)
    basis = np.eye(3) if ceiling is None else np.eye(3)[:, :2]
    found = minimise(form, _logistic_starts(data.chance, ceiling), data.score, data.weights, basis=basis)
    best = found.theta[np.argmin(found.value)][None]
    predicted = form.predict(best)[0][0]
    flat = 0.5 * np.sum(data.weights * (data.chance - data.score) ** 2)
    if found.value.min() >= flat:
        return None
    freedom = max(len(data.x) - basis.shape[1], 1)
    dispersion = max(1.0, float(np.sum(data.weights * (predicted - data.score) ** 2)) / freedom)
    theta = best
    if draws:
        noise = np.random.default_rng(seed).standard_normal((draws, len(data.x)))
        resampled = predicted + noise * np.sqrt(dispersion * data.variance)
        start = np.repeat(best, draws, axis=0)
        theta = np.concatenate([best, minimise(form, start, resampled, data.weights, basis=basis).theta])
    steepness = np.exp(np.clip(theta[:, 1], -30, 30))
    curves = np.stack(
        [
            centre + spread * theta[:, 0] / steepness,
            steepness / spread,
            data.chance + (1 - data.chance) * _sigmoid(theta[:, 2]),
        ],
        axis=1,
    )
    return SaturatingCurves(data.chance, curves, dispersion)


def _logistic_starts(chance: float, ceiling: float | None) -> Array:
    share = 0.5 if ceiling is None else (ceiling - chance) / (1 - chance)
    top = np.log(share / (1 - share)) if share < 1 else 40.0
    shifts, steps = np.meshgrid([-4, -2, 0, 2, 4, 7], np.log([0.3, 1.0, 3.0]), indexing="ij")
    return np.column_stack([shifts.ravel(), steps.ravel(), np.full(shifts.size, top)])


@dataclass(frozen=True)
class Line:
    """The line y = slope x + intercept of weighted least squares."""

    slope: float
    intercept: float
    r2: float
    slope_se: float  # infinite where every x is the same


def fit_line(x: Array, y: Array, weights: Array) -> Line:
    """Fit a line to points x, y (n,) by weighted least squares."""
    total = weights.sum()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x - mean_x) ** 2
    if spread == 0:  # every x is the same: the line is level, and its slope is unknown
        return Line(0.0, float(mean_y), 0.0, np.inf)
    slope = float(weights @ ((x - mean_x) * (y - mean_y)) / spread)
    residual = y - mean_y - slope * (x - mean_x)
    around = float(weights @ (y - mean_y) ** 2)
    r2 = 1 - float(weights @ residual**2) / around if around > 0 else 0.0
    freedom = max(len(x) - 2, 1)
    error = float(np.sqrt(max(float(weights @ residual**2) / freedom, 1e-300) / spread))
    return Line(slope, float(mean_y - slope * mean_x), r2, error)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
