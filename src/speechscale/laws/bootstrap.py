"""Draws of a fitted law from the noise of its runs, and intervals from draws."""

from __future__ import annotations

import numpy as np

from speechscale.laws.forms import log_loss
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit, refit

LEVEL = 0.95


def draw_laws(fit: SingleEpochFit, count: int, seed: int) -> Array:
    """`count` laws (count, 5) as they might have come out: residuals put back at random, the law fitted again.

    The residuals are first divided by sqrt(1 - leverage), which makes up for what the fit absorbed, and each draw's
    residuals share a random scale, which makes up for not knowing the noise (so that a draw follows a t, not a
    normal distribution).
    """
    rng = np.random.default_rng(seed)
    ladder = fit.ladder
    spare = len(ladder) - fit.constraint.free
    noise = _full_residuals(fit)
    scale = np.sqrt(spare / rng.chisquare(spare, count))
    drawn = rng.choice(noise, (count, len(ladder))) * scale[:, None]
    return refit(fit, log_loss(fit.theta, ladder.log_n, ladder.log_d) + drawn, ladder.weights)


def interval(draws: Array) -> list[float] | None:
    """Central 95 % interval of draws (S,); None where draws are not finite often enough to say."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < 0.975 * len(draws):
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def leverages(fit: SingleEpochFit) -> Array:
    """Diagonal of the hat matrix of the linearised fit, (n,), in [0, 1)."""
    jacobian = fit.ladder.objective(fit.delta).jacobian(fit.ladder.centring.centred(fit.theta))
    jacobian = jacobian @ fit.ladder.centring.matrix @ fit.constraint.basis
    left, values, _ = np.linalg.svd(jacobian * np.sqrt(fit.ladder.weights)[:, None], full_matrices=False)
    kept = left[:, values > 1e-10 * values[0]]
    return np.minimum(np.sum(kept**2, axis=1), 0.99)


def _full_residuals(fit: SingleEpochFit) -> Array:
    full = fit.residuals / np.sqrt(1 - leverages(fit))
    return full - full.mean()
