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
NORMAL_975 = 1.959963984540054  # 97.5 % quantile of the standard normal
MIN_DRAWS = 100
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)


def require_draw_count(count: int) -> None:
    """Refuse too few draws for an interval.

    Raises:
        UserError: fewer than MIN_DRAWS.
    """
    if count < MIN_DRAWS:
        raise UserError(f"{count} draws cannot carry a 95 % interval; {MIN_DRAWS} are the least.")


def draw_laws(fit: SingleEpochFit, count: int, seed: int, resampling: Resampling = "noise") -> Array:
    """Draw `count` laws, (count, 5) float64, as other runs with the same N and D could have given them.

    "noise", the default: resampled residuals are added to the observed losses, and the law is fitted again (randomised
    maximum likelihood: Oliver, He and Reynolds 1996). A residual is divided by sqrt(1 - leverage), which restores what
    the fit absorbed. Those of one draw share a random scale, because the noise is itself an estimate; so a draw follows
    a t and not a normal distribution. "runs": runs resampled with replacement (Efron 1979); it needs no common noise,
    but its intervals hold the truth less often (docs/laws.md has figures).

    Args:
        fit: the law and its runs.
        count: number of draws.
        seed: of the random numbers.
        resampling: "noise" or "runs".
    """
    rng = np.random.default_rng(seed)
    ladder = fit.ladder
    size = len(ladder)
    if resampling == "runs":
        counts = rng.multinomial(size, np.full(size, 1 / size), count)
        return refit(fit, ladder.log_loss, ladder.weights * counts)
    freedom = size - fit.constraint.free
    scale = np.sqrt(freedom / rng.chisquare(freedom, count))
    # A run of weight w counts as w runs like it, so its noise is smaller by sqrt(w).
    spread = 1 / np.sqrt(np.where(ladder.weights > 0, ladder.weights, 1.0))
    noise = rng.choice(_standardised_residuals(fit), (count, size)) * scale[:, None] * spread
    return refit(fit, ladder.log_loss + noise, ladder.weights)


def percentile_interval(draws: Array) -> Interval | None:
    """Central 95 % interval of draws (S,); None where too few of them are finite to give both ends."""
    finite = draws[np.isfinite(draws)]
    if not len(finite) or len(finite) < (1 + LEVEL) / 2 * len(draws):
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def leverages(fit: SingleEpochFit) -> Array:
    """Diagonal of the hat matrix of the linearised fit, (n,) float64 in [0, 1)."""
    centre = fit.ladder.centring
    jacobian = fit.ladder.objective(fit.delta).jacobian(centre.centred(fit.theta))
    free = jacobian @ centre.matrix @ fit.constraint.basis
    return hat_diagonal(free * np.sqrt(fit.ladder.weights)[:, None])


def hat_diagonal(jacobian: Array) -> Array:
    """Diagonal of the hat matrix, (n,) float64 in [0, 1), of a linear fit with this Jacobian (n, q)."""
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    kept = left[:, values > 1e-10 * values[0]]
    return np.asarray(np.minimum(np.sum(kept**2, axis=1), 0.99))


def _standardised_residuals(fit: SingleEpochFit) -> Array:
    """Residuals (n,) scaled to runs of weight 1 and to the noise before the fit, with mean zero."""
    full = fit.residuals * np.sqrt(fit.ladder.weights / (1 - leverages(fit)))
    return np.asarray(full - full.mean())
