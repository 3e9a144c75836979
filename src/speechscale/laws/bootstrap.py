"""Draws of a fitted law from the noise of its runs, and intervals from draws."""

from __future__ import annotations

from typing import get_args

import numpy as np

from speechscale.errors import UserError
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit, refit
from speechscale.records.law import Resampling
from speechscale.records.law_sections import Interval

LEVEL = 0.95
LEAST_DRAWS = 100
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)


def require_draws(count: int) -> None:
    """Refuse draws too few for an interval."""
    if count < LEAST_DRAWS:
        raise UserError(f"{count} draws cannot carry a 95 % interval; {LEAST_DRAWS} are the least.")


def draw_laws(fit: SingleEpochFit, count: int, seed: int, resampling: Resampling = "noise") -> Array:
    """`count` laws (count, 5) as they might have come out of runs like these.

    "noise", the default: residuals drawn anew are added to the observed losses, and the law is fitted again
    (randomised maximum likelihood: Oliver, He and Reynolds 1996). A residual is divided by sqrt(1 - leverage), which
    makes up for what the fit absorbed, and those of one draw share a random scale, which makes up for the noise
    being estimated, so that a draw follows a t and not a normal distribution. "runs": runs drawn with replacement
    (Efron 1979); it needs no common noise, but holds the truth less often (docs/laws.md has figures).
    """
    rng = np.random.default_rng(seed)
    ladder = fit.ladder
    size = len(ladder)
    if resampling == "runs":
        return refit(
            fit, ladder.log_loss, ladder.weights * rng.multinomial(size, np.full(size, 1 / size), count)
        )
    spare = size - fit.constraint.free
    scale = np.sqrt(spare / rng.chisquare(spare, count))
    # A run of weight w stands for w runs like it, so its noise is smaller by sqrt(w).
    spread = 1 / np.sqrt(np.where(ladder.weights > 0, ladder.weights, 1.0))
    drawn = rng.choice(_full_residuals(fit), (count, size)) * scale[:, None] * spread
    return refit(fit, ladder.log_loss + drawn, ladder.weights)


def interval(draws: Array) -> Interval | None:
    """Central 95 % interval of draws (S,); None where draws are not finite often enough to say."""
    finite = draws[np.isfinite(draws)]
    if not len(finite) or len(finite) < (1 + LEVEL) / 2 * len(draws):
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def leverages(fit: SingleEpochFit) -> Array:
    """Diagonal of the hat matrix of the linearised fit, (n,), in [0, 1)."""
    centre = fit.ladder.centring
    jacobian = fit.ladder.objective(fit.delta).jacobian(centre.centred(fit.theta))
    free = jacobian @ centre.matrix @ fit.constraint.basis
    left, values, _ = np.linalg.svd(free * np.sqrt(fit.ladder.weights)[:, None], full_matrices=False)
    kept = left[:, values > 1e-10 * values[0]]
    return np.minimum(np.sum(kept**2, axis=1), 0.99)


def _full_residuals(fit: SingleEpochFit) -> Array:
    """Residuals of runs of weight 1, freed of what the fit absorbed, with mean zero."""
    full = fit.residuals * np.sqrt(fit.ladder.weights / (1 - leverages(fit)))
    return full - full.mean()
