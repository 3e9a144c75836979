"""The law of repeated data: L(N', D') with effective parameters N' and effective tokens D'.

D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)) with U_D the unique tokens seen and R_D = D/U_D - 1 the repetitions;
N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)) with U_N = min(N, N_opt that goes with U_D) and R_N = N/U_N - 1.

theta (S, 7) = (ln A, ln B, ln E, alpha, beta, ln R_D*, ln R_N*); arrays are float64. The rates are fitted under the
additive law; `log_effective` also takes theta (S, 9), with ln gamma and c of another law before the rates.
Source: Muennighoff et al. 2023 (arXiv 2305.16264), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.allocation import log_params_for
from speechscale.laws.forms import MAX_LOG, log_terms
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array, QuadraticModel, minimise
from speechscale.laws.single_epoch import SingleEpochFit

RATES = ("R_D", "R_N")
RATE_GRID = np.geomspace(0.03, 3e4, 49)  # values of R* at which the objective is profiled
NEWTON_SHARE = 0.02  # of the majoriser in the Hessian, so that it is never singular


@dataclass(frozen=True)
class EffectiveCount:
    """Ln of an effective count, and its derivatives by ln R* and by ln of the unique count; all of one shape."""

    log: Array
    by_rate: Array
    by_unique: Array


def effective_count(log_unique: Array, log_seen: Array, log_rate: Array) -> EffectiveCount:
    """Effective count of `seen` things of which `unique` differ, when the value of a repetition decays with rate R*."""
    ratio = np.exp(np.maximum(log_seen - log_unique, 0.0))
    rate = np.exp(log_rate)
    decay = np.exp(-(ratio - 1) / rate)
    gained = -rate * np.expm1(-(ratio - 1) / rate)
    total = 1 + gained
    return EffectiveCount(
        log_unique + np.log(total), (gained - (ratio - 1) * decay) / total, 1 - decay * ratio / total
    )


def log_effective(theta: Array, log_n: Array, log_d: Array, log_unique: Array) -> tuple[Array, Array]:
    """Ln N' and ln D' (..., n) of n runs at theta (..., 7) or (..., 9)."""
    unique_d = np.minimum(log_unique, log_d)
    unique_n = np.minimum(log_n, log_params_for(theta[..., None, :-2], unique_d))
    tokens = effective_count(unique_d, log_d, theta[..., -2, None])
    params = effective_count(unique_n, log_n, theta[..., -1, None])
    return params.log, tokens.log


class RepeatedDataObjective:
    """The objective of the repeated-data law: the Huber sum of its residuals, for many theta at once."""

    def __init__(self, log_n: Array, log_d: Array, log_unique: Array, delta: float) -> None:
        self.log_n, self.log_d, self.delta = log_n, log_d, delta
        self.log_unique = np.minimum(log_unique, log_d)

    def __call__(self, theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
        """The local models at S points; see `minimise.Objective` for the shapes."""
        predicted, jacobian = self.predict(theta)
        residual = predicted - log_loss
        clipped = np.clip(residual, -self.delta, self.delta)
        pull = weights * clipped
        trust = self.delta / np.maximum(np.abs(residual), self.delta)
        stiffness = weights * ((trust == 1.0) + (NEWTON_SHARE + damping[:, None]) * trust)
        return QuadraticModel(
            np.einsum("sn,sn->s", pull, residual - 0.5 * clipped),
            np.einsum("sn,snp->sp", pull, jacobian),
            np.swapaxes(jacobian, 1, 2) @ (stiffness[..., None] * jacobian),
        )

    def predict(self, theta: Array) -> tuple[Array, Array]:
        """Ln L (S, n) and its derivatives by theta (S, n, 7)."""
        a, b, _, alpha, beta, log_rate_d, log_rate_n = (theta[:, k, None] for k in range(7))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            log_ratio = np.log(alpha) + a - np.log(beta) - b
            matched = (log_ratio + beta * self.log_unique) / alpha  # ln N_opt that goes with U_D
            capped = matched < self.log_n  # parameters in excess of what the unique data can use
            params = effective_count(np.where(capped, matched, self.log_n), self.log_n, log_rate_n)
            tokens = effective_count(self.log_unique, self.log_d, log_rate_d)
            of_n, of_d, e = log_terms(theta, params.log, tokens.log)
            total = np.logaddexp(np.logaddexp(of_n, of_d), e)
            share_n, share_d, share_e = np.exp(of_n - total), np.exp(of_d - total), np.exp(e - total)
        through_unique = np.where(capped, -alpha * share_n * params.by_unique / alpha, 0.0)
        columns = [
            share_n + through_unique,
            share_d - through_unique,
            share_e,
            -share_n * params.log + through_unique * (1 / alpha - matched),
            -share_d * tokens.log + through_unique * (self.log_unique - 1 / beta),
            -beta * share_d * tokens.by_rate,
            -alpha * share_n * params.by_rate,
        ]
        return total, np.stack(columns, axis=-1)


@dataclass(frozen=True)
class RateObjectiveProfile:
    """Least objective at each value of RATE_GRID of one rate, and the interval in which it stays low enough."""

    objective: Array
    low: float | None  # None: the objective is still low enough at the end of the grid
    high: float | None

    @property
    def closes(self) -> bool:
        """Whether the interval has both ends."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class RepeatedFit:
    """The fitted law of repeated data, with a profile of each rate."""

    theta: Array  # (7,)
    delta: float
    objective: float
    minima: int  # distinct minima within the profile's threshold, the global one among them
    profiles: dict[str, RateObjectiveProfile]  # by rate

    @property
    def rates(self) -> dict[str, float]:
        """R_D* and R_N* by name."""
        return dict(zip(RATES, clipped_rates(self.theta[5:]).tolist(), strict=True))


def clipped_rates(log_rates: Array) -> Array:
    """R* of ln R*, clipped to the profiled range: an optimum beyond an end is no better than the end itself."""
    return np.clip(np.exp(np.clip(log_rates, -MAX_LOG, MAX_LOG)), RATE_GRID[0], RATE_GRID[-1])


def fit_repeated(
    single_epoch: SingleEpochFit, runs: Ladder, unique: Array, *, joint: bool = False
) -> RepeatedFit:
    """Fit R_D* and R_N* to runs.

    Args:
        single_epoch: the single-epoch law: fixed, as published, or the starting point of a joint fit.
        runs: the n multi-epoch runs; if `joint`, all runs.
        unique: unique tokens of each run, (n,).
        joint: fit the five parameters of the single-epoch law too.
    """
    objective = RepeatedDataObjective(runs.log_n, runs.log_d, np.log(unique), single_epoch.delta)
    basis = np.eye(7)[:, 5:]
    if joint:
        basis = np.column_stack([_pad(single_epoch.constraint.basis), basis])
    rates = np.log(RATE_GRID[::6])
    grid = np.stack([axis.ravel() for axis in np.meshgrid(rates, rates, indexing="ij")], axis=1)
    starts = np.column_stack([np.repeat(single_epoch.theta[None], len(grid), axis=0), grid])
    theta, value = _descend(objective, runs, starts, basis)
    best = int(np.argmin(value))
    threshold = float(value[best]) + _excess_in_interval(objective, theta[best], runs, basis.shape[1])
    near = theta[value <= threshold]
    minima = len(np.unique(np.round(near[:, 5:], 1), axis=0))
    profiles = {}
    for k, name in enumerate(RATES):
        others = basis[:, basis[5 + k] == 0]
        # Each point of the profile starts from the optimum and from both ends of the other rate.
        seeds = np.repeat(theta[best][None], 3 * len(RATE_GRID), axis=0)
        seeds[:, 5 + k] = np.tile(np.log(RATE_GRID), 3)
        seeds[len(RATE_GRID) :, 6 - k] = np.repeat(np.log([0.3, 300.0]), len(RATE_GRID))
        _, values = _descend(objective, runs, seeds, others)
        profiles[name] = _profile(values.reshape(3, -1).min(axis=0), threshold)
    return RepeatedFit(theta[best], single_epoch.delta, float(value[best]), minima, profiles)


def _descend(
    objective: RepeatedDataObjective, runs: Ladder, start: Array, basis: Array
) -> tuple[Array, Array]:
    """Optima (S, 7) and least objectives (S,) along a basis (7, q), from starts (S, 7).

    Steps are taken in centred coordinates, where ln A and alpha are not nearly the same direction.
    """
    centre = np.eye(7)
    centre[:5, :5] = runs.centring.matrix
    back = np.linalg.inv(centre)

    def centred(theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
        return objective(theta @ back.T, log_loss, weights, damping).within(back)

    found = minimise(centred, start @ centre.T, runs.log_loss, runs.weights, basis=centre @ basis)
    return found.theta @ back.T, found.value


def refit_rates(fit: RepeatedFit, thetas: Array, runs: Ladder, unique: Array, log_losses: Array) -> Array:
    """Ln rates (S, 2) refitted under S single-epoch laws to S variants of the multi-epoch losses.

    Args:
        fit: the original fit, where the rates start.
        thetas: single-epoch laws (S, 5), held fixed.
        runs: the n multi-epoch runs.
        unique: unique tokens of each run, (n,).
        log_losses: (S, n).
    """
    objective = RepeatedDataObjective(runs.log_n, runs.log_d, np.log(unique), fit.delta)
    starts = np.column_stack([thetas, np.repeat(fit.theta[None, 5:], len(thetas), axis=0)])
    found = minimise(objective, starts, log_losses, runs.weights, basis=np.eye(7)[:, 5:])
    return found.theta[:, 5:]


def _pad(basis: Array) -> Array:
    return np.vstack([basis, np.zeros((2, basis.shape[1]))])


def _excess_in_interval(objective: RepeatedDataObjective, theta: Array, runs: Ladder, free: int) -> float:
    """Excess over the least objective up to which a value is inside the 95 % interval of one parameter.

    The likelihood-ratio-type test of M-estimators (Schrader and Hettmansperger 1980), with a t for few runs.
    """
    from scipy.special import stdtrit

    residual = objective.predict(theta[None])[0][0] - runs.log_loss
    clipped = np.clip(residual, -objective.delta, objective.delta)
    spare = max(len(runs) - free, 1)
    inside = max(float(np.mean(np.abs(residual) <= objective.delta)), 1.0 / len(runs))
    return float(0.5 * np.sum(clipped**2) / spare / inside * stdtrit(spare, 0.975) ** 2)


def _profile(values: Array, threshold: float) -> RateObjectiveProfile:
    """The interval in which the profile stays below the threshold, by interpolation in ln R*."""
    below = np.flatnonzero(values <= threshold)
    if not len(below):  # the optimum is between two points of the grid
        below = np.array([int(np.argmin(values))])
    first, last = int(below[0]), int(below[-1])

    def crossing(inner: int, outer: int) -> float:
        share = (threshold - values[inner]) / (values[outer] - values[inner])
        log = np.log(RATE_GRID)
        return float(np.exp(log[inner] + np.clip(share, 0.0, 1.0) * (log[outer] - log[inner])))

    low = crossing(first, first - 1) if first > 0 else None
    high = crossing(last, last + 1) if last < len(RATE_GRID) - 1 else None
    return RateObjectiveProfile(values, low, high)
