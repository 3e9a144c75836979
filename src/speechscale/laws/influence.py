"""How far the forecast moves when one run is left out: a Newton step for every run, an exact refit for the worst."""

from __future__ import annotations

import numpy as np

from speechscale.laws import allocation
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit, refit

FARTHER = 10.0  # times the largest compute: where the forecast is looked at
EXACT = 20  # runs that are left out in earnest; refitting for each would cost the square of the runs


def influence(fit: SingleEpochFit) -> Array:
    """Change of ln L forecast at FARTHER times the largest compute when each run is left out, (n,)."""
    ladder = fit.ladder
    if len(ladder) <= fit.constraint.free + 1:
        return np.zeros(len(ladder))
    at_fit = log_forecast(fit, fit.theta)
    moved = log_forecast(fit, _one_step(fit)) - at_fit
    worst = np.argsort(-np.abs(moved), kind="stable")[:EXACT]
    left_out = np.repeat(ladder.weights[None], len(worst), axis=0)
    left_out[np.arange(len(worst)), worst] = 0.0
    moved[worst] = log_forecast(fit, refit(fit, ladder.log_loss, left_out)) - at_fit
    return moved


def log_forecast(fit: SingleEpochFit, theta: Array) -> Array:
    """ln of the best loss at FARTHER times the largest compute, theta (..., 5); 0 where no split is best."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.log(allocation.best_loss(theta, FARTHER * fit.ladder.flops.max())))


def _one_step(fit: SingleEpochFit) -> Array:
    """theta (n, 5) after one Gauss-Newton step of the objective without each run (Cook 1977, for Huber's loss)."""
    ladder, centre = fit.ladder, fit.ladder.centring
    theta = centre.centred(fit.theta)
    objective = ladder.objective(fit.delta)
    basis = centre.matrix @ fit.constraint.basis
    jacobian = objective.jacobian(theta) @ basis
    pull = ladder.weights * np.clip(fit.residuals, -fit.delta, fit.delta)
    stiffness = ladder.weights * (np.abs(fit.residuals) <= fit.delta)
    whole = objective(theta[None], ladder.log_loss, ladder.weights, np.full(1, 1e-6)).within(basis).matrix
    without = whole - stiffness[:, None, None] * jacobian[:, :, None] * jacobian[:, None, :]
    without += 1e-9 * np.trace(whole[0]) * np.eye(basis.shape[1])
    step = np.linalg.solve(without, (pull[:, None] * jacobian)[..., None])[..., 0]
    return centre.restored(theta + step @ basis.T)
