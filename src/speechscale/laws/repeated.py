"""The law of repeated data: L(N', D') with effective parameters N' and effective tokens D'.

D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)) with U_D the unique tokens seen and R_D = D/U_D - 1 the repetitions;
N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)) with U_N = min(N, N_opt that goes with U_D) and R_N = N/U_N - 1.

theta (S, 7) = (ln A, ln B, ln E, alpha, beta, ln R_D*, ln R_N*); arrays are float64. The rates are fitted under the
additive law; `log_effective` also takes theta (S, 9), with ln gamma and c of another law before the rates.
Source: Muennighoff et al. 2023 (arXiv 2305.16264), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from speechscale.laws.allocation import log_params_for
from speechscale.laws.bootstrap import hat_diagonal
from speechscale.laws.forms import MAX_LOG, log_loss, log_terms
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array, NewtonSettings, OptimizerResult, QuadraticModel, minimise
from speechscale.laws.single_epoch import SingleEpochFit
from speechscale.records.runs_table import SINGLE_EPOCH_TOLERANCE

RATES = ("R_D", "R_N")
RATE_GRID = np.geomspace(0.03, 3e4, 49)  # values of R* at which the objective is profiled
NEWTON_SHARE = 0.02  # of the majoriser in the Hessian, so that it is never singular
POLISHED = 3  # best minima of the search that are polished
START_RATES = np.geomspace(0.3, 300.0, 3)  # of each rate, in all pairs
# The search finds the basins and its best minimum is then polished. A profile needs the digits of its threshold, and a
# draw those of its spread; along a flat valley more digits would take hundreds of steps.
SEARCH = NewtonSettings(tolerance=1e-5, max_steps=40, racing=True)
PROFILE = NewtonSettings(damping=0.1, tolerance=1e-5, max_steps=30)
DRAW = NewtonSettings(damping=0.1, tolerance=1e-4, max_steps=25)


@dataclass(frozen=True)
class EffectiveCount:
    """Ln of an effective count, and its derivatives by ln R* and by ln of the unique count; all of one shape."""

    log: Array
    by_rate: Array
    by_unique: Array


def effective_count(log_unique: Array, log_seen: Array, log_rate: Array) -> EffectiveCount:
    """Effective count of `seen` things of which `unique` differ, when the value of a repetition decays with rate R*."""
    repeats = np.expm1(np.maximum(log_seen - log_unique, 0.0))
    rate = np.exp(log_rate)
    lost = np.expm1(-repeats / rate)
    gained = -rate * lost
    total = 1 + gained
    decay = 1 + lost
    return EffectiveCount(
        log_unique + np.log1p(gained), (gained - repeats * decay) / total, 1 - decay * (1 + repeats) / total
    )


def log_effective(theta: Array, log_n: Array, log_d: Array, log_unique: Array) -> tuple[Array, Array]:
    """Ln N' and ln D' (..., n) of n runs at theta (..., 7) or (..., 9)."""
    unique_d = np.minimum(log_unique, log_d)
    unique_n = np.minimum(log_n, log_params_for(theta[..., None, :-2], unique_d))
    tokens = effective_count(unique_d, log_d, theta[..., -2, None])
    params = effective_count(unique_n, log_n, theta[..., -1, None])
    return params.log, tokens.log


def log_loss_repeated(theta: Array, log_n: Array, log_d: Array, log_unique: Array) -> Array:
    """Ln L(N', D') (..., n) of n runs at theta (..., 7) or (..., 9)."""
    return log_loss(theta[..., :-2], *log_effective(theta, log_n, log_d, log_unique))


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
            np.einsum("sn,spn->sp", pull, jacobian),
            (jacobian * stiffness[:, None]) @ np.swapaxes(jacobian, 1, 2),
        )

    def predict(self, theta: Array) -> tuple[Array, Array]:
        """Ln L (S, n) and its derivatives by theta (S, 7, n)."""
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
        through_unique = np.where(capped, -share_n * params.by_unique, 0.0)
        jacobian = np.empty((len(theta), 7, len(self.log_n)))
        jacobian[:, 0], jacobian[:, 1], jacobian[:, 2] = (
            share_n + through_unique,
            share_d - through_unique,
            share_e,
        )
        jacobian[:, 3] = through_unique * (1 / alpha - matched) - share_n * params.log
        jacobian[:, 4] = through_unique * (self.log_unique - 1 / beta) - share_d * tokens.log
        jacobian[:, 5] = -beta * share_d * tokens.by_rate
        jacobian[:, 6] = -alpha * share_n * params.by_rate
        return total, jacobian


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
    single_epoch: SingleEpochFit  # of the first stage
    joint: bool  # whether its parameters were fitted again
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
    single_epoch: SingleEpochFit,
    runs: Ladder,
    unique: Array,
    *,
    joint: bool = False,
    profiled: bool = True,
) -> RepeatedFit:
    """Fit R_D* and R_N* to runs.

    Args:
        single_epoch: the single-epoch law: fixed, as published, or the starting point of a joint fit.
        runs: the n multi-epoch runs; if `joint`, all runs.
        unique: unique tokens of each run, (n,).
        joint: fit the five parameters of the single-epoch law too.
        profiled: also find the interval of each rate.
    """
    objective = RepeatedDataObjective(runs.log_n, runs.log_d, np.log(unique), single_epoch.delta)
    basis = _free_directions(single_epoch, joint=joint)
    rates = np.log(START_RATES)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(rates, rates, indexing="ij")], axis=1)
    starts = np.column_stack([np.repeat(single_epoch.theta[None], len(grid), axis=0), grid])
    found = _descend(objective, runs, starts, basis, SEARCH)
    near = np.argsort(np.where(np.isfinite(found.value), found.value, np.inf), kind="stable")[:POLISHED]
    found = _descend(objective, runs, found.theta[near], basis, NewtonSettings())
    best = int(np.argmin(found.value))
    theta, value = found.theta[best], float(found.value[best])
    if not profiled:
        return RepeatedFit(theta, single_epoch, joint, value, 1, {})
    threshold = value + _excess_in_interval(objective, theta, runs, basis.shape[1])
    minima = len(np.unique(np.round(found.theta[found.value <= threshold][:, 5:], 1), axis=0))
    profiles = {
        name: _profile_rate(objective, runs, theta, basis, 5 + k, threshold) for k, name in enumerate(RATES)
    }
    return RepeatedFit(theta, single_epoch, joint, value, minima, profiles)


def _profile_rate(
    objective: RepeatedDataObjective, runs: Ladder, theta: Array, basis: Array, rate: int, threshold: float
) -> RateObjectiveProfile:
    """The least objective at each value of one rate, entry `rate` of theta, around the optimum theta (7,)."""
    # Each point starts from the optimum and from both ends of the other rate.
    seeds = np.repeat(theta[None], 3 * len(RATE_GRID), axis=0)
    seeds[:, rate] = np.tile(np.log(RATE_GRID), 3)
    seeds[len(RATE_GRID) :, 11 - rate] = np.repeat(np.log([0.3, 300.0]), len(RATE_GRID))
    found = _descend(objective, runs, seeds, basis[:, basis[rate] == 0], PROFILE)
    return _profile(found.value.reshape(3, -1).min(axis=0), threshold)


def _descend(
    objective: RepeatedDataObjective,
    runs: Ladder,
    start: Array,
    basis: Array,
    settings: NewtonSettings,
    log_losses: Array | None = None,
) -> OptimizerResult:
    """Optima along a basis (7, q) from starts (S, 7), of the losses of the runs or of S variants of them (S, n).

    Steps are taken in centred coordinates, where ln A and alpha are not nearly the same direction.
    """
    centre = np.eye(7)
    centre[:5, :5] = runs.centring.matrix
    back = np.linalg.inv(centre)

    def centred(theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
        return objective(theta @ back.T, log_loss, weights, damping).within(back)

    targets = runs.log_loss if log_losses is None else log_losses
    found = minimise(
        centred, start @ centre.T, targets, runs.weights, basis=centre @ basis, settings=settings
    )
    return replace(found, theta=found.theta @ back.T)


def draw_rates(fit: RepeatedFit, laws: Array, runs: Ladder, unique: Array, rng: np.random.Generator) -> Array:
    """Draw ln R_D* and ln R_N* (S, 2): for each single-epoch law, a refit to losses with resampled residuals.

    Args:
        fit: the fit in two stages, where the rates start.
        laws: draws of the single-epoch law (S, 5), held fixed.
        runs: the n multi-epoch runs.
        unique: unique tokens of each run, (n,).
        rng: of the residuals.
    """
    predicted = log_loss_repeated(fit.theta[None], runs.log_n, runs.log_d, np.log(unique))[0]
    residual = runs.log_loss - predicted
    residual *= np.sqrt(len(runs) / max(len(runs) - len(RATES), 1))
    losses = predicted + rng.choice(residual, (len(laws), len(runs)))
    objective = RepeatedDataObjective(runs.log_n, runs.log_d, np.log(unique), fit.single_epoch.delta)
    starts = np.column_stack([laws, np.repeat(fit.theta[None, 5:], len(laws), axis=0)])
    found = minimise(objective, starts, losses, runs.weights, basis=np.eye(7)[:, 5:], settings=DRAW)
    return found.theta[:, 5:]


def draw_joint(fit: RepeatedFit, runs: Ladder, unique: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw `count` joint laws as theta (count, 7), as other runs with the same N, D and U could have given them.

    As in `bootstrap.draw_laws`, but residuals are resampled among the runs of one epoch and among those of several
    epochs, around which the law is much less exact.

    Args:
        fit: the joint fit.
        runs: all n runs.
        unique: unique tokens of each run, (n,).
        count: number of draws.
        rng: of the residuals.
    """
    objective = RepeatedDataObjective(runs.log_n, runs.log_d, np.log(unique), fit.single_epoch.delta)
    predicted, jacobian = objective.predict(fit.theta[None])
    basis = _free_directions(fit.single_epoch, joint=True)
    share = hat_diagonal((jacobian[0].T @ basis) * np.sqrt(runs.weights)[:, None])
    residual = (predicted[0] - runs.log_loss) * np.sqrt(runs.weights / (1 - share))
    freedom = max(len(runs) - basis.shape[1], 1)
    scale = np.sqrt(freedom / rng.chisquare(freedom, count))[:, None]
    noise = np.empty((count, len(runs)))
    repeated = runs.tokens > unique * SINGLE_EPOCH_TOLERANCE
    for rows in (np.flatnonzero(repeated), np.flatnonzero(~repeated)):
        if len(rows):
            centred = residual[rows] - residual[rows].mean()
            noise[:, rows] = rng.choice(centred, (count, len(rows)))
    spread = 1 / np.sqrt(np.where(runs.weights > 0, runs.weights, 1.0))
    start = np.repeat(fit.theta[None], count, axis=0)
    return _descend(objective, runs, start, basis, DRAW, runs.log_loss + noise * scale * spread).theta


def _free_directions(single_epoch: SingleEpochFit, *, joint: bool) -> Array:
    """The directions of theta that are fitted, (7, q): the rates, and if `joint` the single-epoch law's."""
    rates = np.eye(7)[:, 5:]
    return np.column_stack([_pad(single_epoch.constraint.basis), rates]) if joint else rates


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
