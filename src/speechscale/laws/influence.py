"""Influence of single runs on the forecast: one Newton step without each run, and exact refits for the largest.

Source of the one-step estimate: Cook 1977, here for Huber's loss.
"""

from __future__ import annotations

import numpy as np

from speechscale.laws import allocation
from speechscale.laws.allocation import FORECAST_FACTOR
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit, refit

EXACT_REFITS = (
    20  # runs left out by a refit; refits for all of them would cost the square of the number of runs
)


def influence(fit: SingleEpochFit) -> Array:
    """Change of the forecast ln L when each of the n runs is left out, (n,) float64; zeros where too few runs remain.

    The forecast is the best loss at FORECAST_FACTOR times the compute of the largest run.
    """
    ladder = fit.ladder
    if len(ladder) <= fit.constraint.free + 1:
        return np.zeros(len(ladder))
    with_all = log_forecast(fit, fit.theta)
    change = log_forecast(fit, _one_step(fit)) - with_all
    largest = np.argsort(-np.abs(change), kind="stable")[:EXACT_REFITS]
    weights = np.repeat(ladder.weights[None], len(largest), axis=0)
    weights[np.arange(len(largest)), largest] = 0.0
    change[largest] = log_forecast(fit, refit(fit, ladder.log_loss, weights)) - with_all
    return change


def log_forecast(fit: SingleEpochFit, theta: Array) -> Array:
    """Ln of the forecast best loss (...) at theta (..., 5); 0 where no split is best."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.log(allocation.best_loss(theta, FORECAST_FACTOR * fit.ladder.flops.max())))


def _one_step(fit: SingleEpochFit) -> Array:
    """Theta (n, 5) after one Gauss-Newton step of the objective without each run."""
    ladder, centre = fit.ladder, fit.ladder.centring
    theta = centre.centred(fit.theta)
    objective = ladder.objective(fit.delta)
    basis = centre.matrix @ fit.constraint.basis
    jacobian = objective.jacobian(theta) @ basis
    pull = ladder.weights * np.clip(fit.residuals, -fit.delta, fit.delta)
    stiffness = ladder.weights * (np.abs(fit.residuals) <= fit.delta)
    with_all = objective(theta[None], ladder.log_loss, ladder.weights, np.full(1, 1e-6)).within(basis).matrix
    without = with_all - stiffness[:, None, None] * jacobian[:, :, None] * jacobian[:, None, :]
    without += 1e-9 * np.trace(with_all[0]) * np.eye(basis.shape[1])
    step = np.linalg.solve(without, (pull[:, None] * jacobian)[..., None])[..., 0]
    return centre.restored(theta + step @ basis.T)
