"""Forms that tie a score to loss or to compute, and their fit with binomial weights.

Linear and power-law forms are the study's; the saturating form is a logistic between chance and a ceiling,
Q = floor + (ceiling - floor) / (1 + exp(-k (x - m))), with x = -loss or ln C (Dubey et al. 2024, section 3.2.1;
Gadre et al. 2024, arXiv 2403.08540, tie loss and score in two steps in the same way).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.minimise import Array, QuadraticModel, minimise

CEILING = 1.0


@dataclass(frozen=True)
class Scored:
    """Runs with a score: x = -loss or ln C (n,), score (n,) in [0, 1], its variance (n,), and chance."""

    x: Array
    score: Array
    variance: Array
    chance: float

    @property
    def weights(self) -> Array:
        return 1.0 / self.variance


def binomial_variance(score: Array, items: Array) -> Array:
    """Variance of a share of `items` right answers; shrunk towards 1/2 (Agresti and Coull) so that it is never 0."""
    shrunk = (score * items + 2) / (items + 4)
    return shrunk * (1 - shrunk) / items


class Logistic:
    """Normal equations of the weighted squared error of the saturating form.

    theta (S, 3) = (c, ln k, ceiling logit): eta = k x - c with x standardised, ceiling = chance + (1 - chance) sigma.
    """

    def __init__(self, x: Array, chance: float) -> None:
        self.x, self.chance = x, chance

    def __call__(self, theta: Array, score: Array, weights: Array, damping: Array) -> QuadraticModel:
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
        shift, log_k, top = (theta[:, k, None] for k in range(3))
        steepness = np.exp(np.clip(log_k, -30, 30))
        rise = _sigmoid(steepness * self.x - shift)
        span = (1 - self.chance) * _sigmoid(top)
        slope = span * rise * (1 - rise)
        columns = [-slope, slope * steepness * self.x, span * rise * (1 - _sigmoid(top))]
        return self.chance + span * rise, np.stack(columns, axis=-1)


@dataclass(frozen=True)
class Saturating:
    """Fitted logistic, and draws of it: rows (midpoint, steepness k, ceiling); row 0 is the fit."""

    floor: float
    curves: Array  # (S, 3)
    dispersion: (
        float  # residual variance over binomial variance; above 1 where runs differ by more than items
    )

    def score(self, x: Array, row: int | slice = 0) -> Array:
        return logistic(x, self.floor, *np.moveaxis(self.curves[row], -1, 0))

    def at(self, score: float) -> Array:
        """x at which each curve reaches a score; infinite where its ceiling lies below."""
        midpoint, steepness, ceiling = self.curves.T
        share = (score - self.floor) / (ceiling - self.floor)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(share < 1, midpoint + np.log(share / (1 - share)) / steepness, np.inf)


def logistic(x: Array, floor: float, midpoint: Array, steepness: Array, ceiling: Array) -> Array:
    return floor + (ceiling - floor) * _sigmoid(steepness * (x - midpoint))


def fit_saturating(
    data: Scored, *, ceiling: float | None = CEILING, draws: int = 0, seed: int = 0
) -> Saturating | None:
    """Fit the saturating form, and `draws` of it under the noise of items and of runs.

    Args:
        ceiling: given, or None to fit it.

    Returns:
        None where no rising curve fits better than chance does.
    """
    centre, spread = data.x.mean(), max(float(data.x.std()), 1e-12)
    form = Logistic((data.x - centre) / spread, data.chance)
    basis = np.eye(3) if ceiling is None else np.eye(3)[:, :2]
    share = 0.5 if ceiling is None else (ceiling - data.chance) / (1 - data.chance)
    top = np.log(share / (1 - share)) if share < 1 else 40.0
    shifts, steps = np.meshgrid([-4, -2, 0, 2, 4, 7], np.log([0.3, 1.0, 3.0]), indexing="ij")
    starts = np.column_stack([shifts.ravel(), steps.ravel(), np.full(shifts.size, top)])
    found = minimise(form, starts, data.score, data.weights, basis=basis)
    best = found.theta[np.argmin(found.value)][None]
    predicted = form.predict(best)[0][0]
    flat = 0.5 * np.sum(data.weights * (data.chance - data.score) ** 2)
    if found.value.min() >= flat:
        return None
    spare = max(len(data.x) - basis.shape[1], 1)
    dispersion = max(1.0, float(np.sum(data.weights * (predicted - data.score) ** 2)) / spare)
    noise = np.random.default_rng(seed).standard_normal((draws, len(data.x)))
    again = predicted + noise * np.sqrt(dispersion * data.variance)
    drawn = (
        minimise(form, np.repeat(best, draws, axis=0), again, data.weights, basis=basis).theta
        if draws
        else best[:0]
    )
    theta = np.concatenate([best, drawn])
    steepness = np.exp(np.clip(theta[:, 1], -30, 30))
    curves = np.stack(
        [
            centre + spread * theta[:, 0] / steepness,
            steepness / spread,
            data.chance + (1 - data.chance) * _sigmoid(theta[:, 2]),
        ],
        axis=1,
    )
    return Saturating(data.chance, curves, dispersion)


def fit_line(x: Array, y: Array, weights: Array) -> tuple[float, float, float, float]:
    """Weighted least squares y = slope x + intercept: (slope, intercept, r2, standard error of the slope)."""
    total = weights.sum()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x - mean_x) ** 2
    if spread == 0:  # every x the same: the line is level, and nothing is known of its slope
        return 0.0, float(mean_y), 0.0, np.inf
    slope = float(weights @ ((x - mean_x) * (y - mean_y)) / spread)
    residual = y - mean_y - slope * (x - mean_x)
    around = float(weights @ (y - mean_y) ** 2)
    r2 = 1 - float(weights @ residual**2) / around if around > 0 else 0.0
    spare = max(len(x) - 2, 1)
    error = float(np.sqrt(max(float(weights @ residual**2) / spare, 1e-300) / spread))
    return slope, float(mean_y - slope * mean_x), r2, error


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))
