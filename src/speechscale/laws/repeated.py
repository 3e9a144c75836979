"""Repeated data: L(N', D') with effective parameters N' and effective tokens D' (Muennighoff et al. 2023).

D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)) with U_D the unique tokens seen and R_D = D/U_D - 1 the repetitions;
N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)) with U_N = min(N, N_opt that goes with U_D) and R_N = N/U_N - 1.

theta (S, 7) = (ln A, ln B, ln E, alpha, beta, ln R_D*, ln R_N*). Source: arXiv 2305.16264, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.allocation import log_params_for
from speechscale.laws.forms import LARGEST, log_terms
from speechscale.laws.minimise import Array, QuadraticModel, minimise
from speechscale.laws.single_epoch import Ladder, SingleEpochFit

RATES = ("R_D", "R_N")
GRID = np.geomspace(0.03, 3e4, 49)  # values of R* at which the objective is profiled
NEWTON_SHARE = 0.02  # of the majoriser in the Hessian, so that it is never singular


@dataclass(frozen=True)
class Effective:
    """ln of the effective number, its derivative by ln R*, and by ln of the unique number."""

    log: Array
    by_rate: Array
    by_unique: Array


def effective(log_unique: Array, log_seen: Array, log_rate: Array) -> Effective:
    """What `seen` of something, `unique` of it different, are worth when a repetition's value decays with rate R*."""
    ratio = np.exp(np.maximum(log_seen - log_unique, 0.0))
    rate = np.exp(log_rate)
    decay = np.exp(-(ratio - 1) / rate)
    gained = -rate * np.expm1(-(ratio - 1) / rate)
    total = 1 + gained
    return Effective(
        log_unique + np.log(total), (gained - (ratio - 1) * decay) / total, 1 - decay * ratio / total
    )


def log_effective(theta: Array, log_n: Array, log_d: Array, log_unique: Array) -> tuple[Array, Array]:
    """ln N' and ln D' at theta (..., 7), each (..., n)."""
    unique_d = np.minimum(log_unique, log_d)
    unique_n = np.minimum(log_n, log_params_for(theta[..., None, :5], unique_d))
    tokens = effective(unique_d, log_d, theta[..., 5, None])
    params = effective(unique_n, log_n, theta[..., 6, None])
    return params.log, tokens.log


class RepeatedData:
    """Normal equations of the Huber sum of the repeated-data law, in the coordinates of its theta."""

    def __init__(self, log_n: Array, log_d: Array, log_unique: Array, delta: float) -> None:
        self.log_n, self.log_d, self.delta = log_n, log_d, delta
        self.log_unique = np.minimum(log_unique, log_d)

    def __call__(self, theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
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
        """ln L (S, n) and its derivatives by theta (S, n, 7)."""
        a, b, _, alpha, beta, log_rate_d, log_rate_n = (theta[:, k, None] for k in range(7))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            log_ratio = np.log(alpha) + a - np.log(beta) - b
            matched = (log_ratio + beta * self.log_unique) / alpha  # ln N_opt that goes with U_D
            capped = matched < self.log_n  # parameters in excess of what the unique data can use
            params = effective(np.where(capped, matched, self.log_n), self.log_n, log_rate_n)
            tokens = effective(self.log_unique, self.log_d, log_rate_d)
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
class Profile:
    """Least objective (len(GRID),) at each value of one rate, and the interval in which it stays low enough."""

    objective: Array
    low: float | None  # None: the objective is still low enough at the end of the grid
    high: float | None

    @property
    def closes(self) -> bool:
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class RepeatedFit:
    theta: Array  # (7,)
    objective: float
    minima: int  # distinct minima within the profile's threshold, the global one among them
    profiles: dict[str, Profile]  # by rate

    @property
    def rates(self) -> dict[str, float]:
        return dict(zip(RATES, told_rates(self.theta[5:]).tolist(), strict=True))


def told_rates(log_rates: Array) -> Array:
    """R* of ln R*, kept to the profiled range: an optimum beyond its ends says no more than the end does."""
    return np.clip(np.exp(np.clip(log_rates, -LARGEST, LARGEST)), GRID[0], GRID[-1])


def fit_repeated(first: SingleEpochFit, runs: Ladder, unique: Array, *, joint: bool = False) -> RepeatedFit:
    """Fit R_D* and R_N* to runs.

    Args:
        first: the single-epoch law, held fixed (as published) or, if `joint`, where all seven parameters start.
        runs: the multi-epoch runs; if `joint`, all runs.
        unique: unique tokens of each run, (n,).
        joint: move the five parameters of the single-epoch law too.
    """
    centre = np.eye(7)
    centre[:5, :5] = runs.centring.matrix
    objective = RepeatedData(runs.log_n, runs.log_d, np.log(unique), first.delta)
    directions = (
        np.eye(7)[:, 5:] if not joint else np.column_stack([_pad(first.constraint.basis), np.eye(7)[:, 5:]])
    )

    def descend(start: Array, free: Array) -> tuple[Array, Array]:
        # Steps are taken in centred coordinates, where ln A and alpha are not nearly the same direction.
        back = np.linalg.inv(centre)

        def centred(theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
            return objective(theta @ back.T, log_loss, weights, damping).within(back)

        found = minimise(centred, start @ centre.T, runs.log_loss, runs.weights, basis=centre @ free)
        return found.theta @ back.T, found.value

    rates = np.log(GRID[::6])
    grid = np.stack([axis.ravel() for axis in np.meshgrid(rates, rates, indexing="ij")], axis=1)
    starts = np.column_stack([np.repeat(first.theta[None], len(grid), axis=0), grid])
    theta, value = descend(starts, directions)
    best = int(np.argmin(value))
    rise = _rise(objective, theta[best], runs, directions.shape[1])
    near = theta[value <= value[best] + rise]
    minima = len(np.unique(np.round(near[:, 5:], 1), axis=0))

    profiles = {}
    for k, name in enumerate(RATES):
        others = directions[:, directions[5 + k] == 0]
        # Each point of the profile starts from the optimum and from both ends of the other rate.
        seeds = np.repeat(theta[best][None], 3 * len(GRID), axis=0)
        seeds[:, 5 + k] = np.tile(np.log(GRID), 3)
        seeds[len(GRID) :, 6 - k] = np.repeat(np.log([0.3, 300.0]), len(GRID))
        _, values = descend(seeds, others)
        profiles[name] = _profile(values.reshape(3, -1).min(axis=0), float(value[best]) + rise)
    return RepeatedFit(theta[best], float(value[best]), minima, profiles)


def refit_rates(
    thetas: Array, runs: Ladder, unique: Array, delta: float, start: Array, log_losses: Array
) -> Array:
    """Rates (S, 2) refitted under S single-epoch laws (S, 5) to S variants of the multi-epoch losses (S, n)."""
    objective = RepeatedData(runs.log_n, runs.log_d, np.log(unique), delta)
    starts = np.column_stack([thetas, np.repeat(start[None], len(thetas), axis=0)])
    return minimise(objective, starts, log_losses, runs.weights, basis=np.eye(7)[:, 5:]).theta[:, 5:]


def _pad(basis: Array) -> Array:
    return np.vstack([basis, np.zeros((2, basis.shape[1]))])


def _rise(objective: RepeatedData, theta: Array, runs: Ladder, free: int) -> float:
    """By how much the objective may exceed its least inside a 95 % interval of one parameter.

    The likelihood-ratio-type test of M-estimators (Schrader and Hettmansperger 1980), with a t for few runs.
    """
    from scipy.special import stdtrit

    residual = objective.predict(theta[None])[0][0] - runs.log_loss
    clipped = np.clip(residual, -objective.delta, objective.delta)
    spare = max(len(runs) - free, 1)
    inside = max(float(np.mean(np.abs(residual) <= objective.delta)), 1.0 / len(runs))
    return float(0.5 * np.sum(clipped**2) / spare / inside * stdtrit(spare, 0.975) ** 2)


def _profile(values: Array, threshold: float) -> Profile:
    """Interval of the values at which the profile stays below the threshold, by interpolation in ln R*."""
    below = np.flatnonzero(values <= threshold)
    if not len(below):  # the optimum lies between two points of the grid
        below = np.array([int(np.argmin(values))])
    first, last = int(below[0]), int(below[-1])

    def crossing(inner: int, outer: int) -> float:
        share = (threshold - values[inner]) / (values[outer] - values[inner])
        log = np.log(GRID)
        return float(np.exp(log[inner] + np.clip(share, 0.0, 1.0) * (log[outer] - log[inner])))

    low = crossing(first, first - 1) if first > 0 else None
    high = crossing(last, last + 1) if last < len(GRID) - 1 else None
    return Profile(values, low, high)
