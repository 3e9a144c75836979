"""Forecasts pooled over the family of loss laws, in equal parts.

On public ladders no member is true, and weights by fit or by backtest forecast no better than equal ones (docs/LOG.md).
Only where the additive law describes the runs is a law without E left out that they contradict. The centre of a pooled
forecast is the median of the members' own forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.family import MEMBERS
from speechscale.laws.family_fit import MemberFit, draw_member, fit_member
from speechscale.laws.forms import log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array
from speechscale.laws.nested_test import nested_p_value

# Level of the tests in `contradicted`, of which two are of the additive law.
LEVEL = 0.05
NOT_CONVERGED = "its fit did not converge"
CONTRADICTED = "the additive law describes these runs and E = 0 contradicts them"


@dataclass(frozen=True)
class PooledLaw:
    """The members of the pool, draws of each as theta (S, 7), and the fits that were left out, with why."""

    fits: list[MemberFit]
    draws: list[Array]
    left_out: list[tuple[MemberFit, str]]

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
    """Fit every member that the runs allow, and pool those that converge and are not contradicted; None without any.

    Args:
        ladder: single-epoch runs.
        draws: of all members together.
        rng: of the draws.
    """
    found = [fit for name in MEMBERS if (fit := fit_member(name, ladder)) is not None]
    converged = {fit.name: fit for fit in found if fit.converged}
    if not converged:
        return None
    without = contradicted(converged)
    fits = [fit for name, fit in converged.items() if name not in without]
    share = -(-draws // len(fits))
    left_out = [(fit, NOT_CONVERGED) for fit in found if not fit.converged]
    left_out += [(converged[name], CONTRADICTED) for name in without]
    return PooledLaw(fits, [draw_member(fit, share, rng) for fit in fits], left_out)


def contradicted(fits: dict[str, MemberFit]) -> set[str]:
    """The law without E, where neither gamma nor c improves on the additive law and E = 0 fits worse than E > 0.

    Then the additive law may be true and the law without E is not. Where gamma or c improves on it, as on nearly every
    public ladder, no member is true, and the law without E stays: it errs to the other side.

    Args:
        fits: members by name, fitted to the same runs.
    """
    if not {"additive", "power", "coupled", "power_without_E"} <= fits.keys():
        return set()
    improved = min(nested_p_value(fits["additive"], fits[name]) for name in ("power", "coupled")) < LEVEL / 2
    without_floor = nested_p_value(fits["power_without_E"], fits["power"])
    return set() if improved or without_floor >= LEVEL else {"power_without_E"}


def widened(draws: Array, centre: Array, scale: float) -> Array:
    """Draws of a logarithm (S, ...) moved away from its centre (...) by a factor."""
    return np.asarray(centre + scale * (draws - centre))
