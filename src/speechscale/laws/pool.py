"""Forecasts pooled over the family of loss laws, in equal parts.

No member is true, and weights by BIC trust the wrong one too much: on public ladders, equal weights forecast better
(docs/LOG.md). The centre of a pooled forecast is the median of the members' own forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.family import MEMBERS
from speechscale.laws.family_fit import MemberFit, draw_member, fit_member
from speechscale.laws.forms import log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array


@dataclass(frozen=True)
class PooledLaw:
    """The members that converged, draws of each as theta (S, 7), and the members that did not."""

    fits: list[MemberFit]
    draws: list[Array]
    left_out: list[MemberFit]

    @property
    def points(self) -> Array:
        """Theta (M, 7) of the members themselves."""
        return np.stack([fit.theta for fit in self.fits])

    def log_forecast(self, log_n: Array, log_d: Array) -> Array:
        """Ln L (n,) at the centre of the pool, for n runs."""
        return np.asarray(np.median(log_loss(self.points, log_n, log_d), axis=0))

    def log_member_forecasts(self, log_n: Array, log_d: Array) -> dict[str, Array]:
        """Ln L (n,) of n runs by every member."""
        return {
            fit.name: row for fit, row in zip(self.fits, log_loss(self.points, log_n, log_d), strict=True)
        }

    def log_new_runs(self, log_n: Array, log_d: Array, rng: np.random.Generator) -> Array:
        """Draws of ln L (M S, n) of new runs: those of the law, each with the noise of one run."""
        drawn = [
            log_loss(theta, log_n, log_d) + fit.noise * rng.standard_normal((len(theta), len(log_n)))
            for fit, theta in zip(self.fits, self.draws, strict=True)
        ]
        return np.concatenate(drawn)


def fit_pool(ladder: Ladder, draws: int, rng: np.random.Generator) -> PooledLaw | None:
    """Fit every member that the runs allow; None where they allow none, or none converges.

    Args:
        ladder: single-epoch runs.
        draws: of all members together.
        rng: of the draws.
    """
    found = [fit for name in MEMBERS if (fit := fit_member(name, ladder)) is not None]
    fits = [fit for fit in found if fit.converged]
    if not fits:
        return None
    share = -(-draws // len(fits))
    left_out = [fit for fit in found if not fit.converged]
    return PooledLaw(fits, [draw_member(fit, share, rng) for fit in fits], left_out)


def widened(draws: Array, centre: Array, scale: float) -> Array:
    """Draws of a logarithm (S, ...) moved away from its centre (...) by a factor."""
    return np.asarray(centre + scale * (draws - centre))
