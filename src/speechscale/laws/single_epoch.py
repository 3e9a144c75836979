"""Fit of L(N, D) = E + A/N^alpha + B/D^beta to runs that saw every token once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.forms import NAMES, TERMS, Centring, SingleEpochObjective, log_loss, named
from speechscale.laws.ladder import Ladder, ParameterConstraint
from speechscale.laws.minimise import Array, NewtonSettings, OptimizerResult, minimise
from speechscale.laws.starts import profiled_starts, published_starts
from speechscale.records.law_sections import Convergence

PAPER_DELTA = 0.03  # Cuervo and Marxer 2024
HUBER_EFFICIENCY = 1.345  # residual deviations inside delta: 95 % efficiency under normal noise (Huber 1981)
MIN_DELTA = 1e-6  # below this the objective is a kink to double precision
NORMAL_MEDIAN = 0.6744897501960817  # of |x|, x standard normal
# Of the corrected root mean square residual: a law that passes through half of the runs has not removed the noise.
MIN_NOISE_SHARE = 0.5
# A refit begins at the optimum of nearly the same runs: little damping, and the last step still squares the error.
REFIT = NewtonSettings(damping=0.1, tolerance=1e-6)
RESTORED_SHARE = 0.01  # of the loss: the size at which a term that vanished in the fit begins a refit
VANISHED_SHARE = 1e-4  # of the loss, below which a term has vanished ...
VANISHED_SHIFT = 40.0  # ... and by how much its logarithm is then lowered to remove it
EXPONENTS = (3, 4)  # entries of theta: alpha and beta
MIN_EXPONENT = (
    0.01  # where a fit that would make loss rise with N or D is held; N^0.01 grows by 5 % in two decades
)
NEAR_OPTIMUM = 1e-3  # relative distance to the least objective up to which vanished terms are removed
AGREEMENT_TOLERANCE = 1e-8  # relative distance to the least objective at which a start has reached it
GRADIENT_TOLERANCE = 1e-5  # largest scaled gradient of an optimum


@dataclass(frozen=True)
class SingleEpochFit:
    """A fitted law: theta (5,) = (ln A, ln B, ln E, alpha, beta), its runs, and how the optimum was reached."""

    theta: Array
    ladder: Ladder
    constraint: ParameterConstraint
    delta: float
    objective: float  # sum over runs of Huber(ln L residual)
    convergence: Convergence

    @property
    def converged(self) -> bool:
        """Whether at least two starts reached the least objective and the gradient there is near zero."""
        return self.convergence.agreeing >= 2 and self.convergence.gradient < GRADIENT_TOLERANCE

    @property
    def params(self) -> dict[str, float]:
        """A, B, E, alpha and beta by name."""
        return named(self.theta)

    @property
    def residuals(self) -> Array:
        """Ln predicted - ln observed loss, (n,)."""
        return np.asarray(log_loss(self.theta, self.ladder.log_n, self.ladder.log_d) - self.ladder.log_loss)

    @property
    def noise(self) -> float:
        """Standard deviation of ln L around the law, corrected for the fitted parameters; see `noise_scale`."""
        return noise_scale(self.residuals, self.constraint.free)

    @property
    def undetermined(self) -> tuple[str, ...]:
        """Parameters that runs of one N or of one D leave open, whatever their losses."""
        columns = {"A": self.ladder.params, "B": self.ladder.tokens, "alpha": self.ladder.params}
        columns["beta"] = self.ladder.tokens
        free = {name: bool(row.any()) for name, row in zip(NAMES, self.constraint.basis, strict=True)}
        terms = [name for name, values in columns.items() if free[name] and np.ptp(values) == 0]
        # The term without a spread is one number, and E takes what it leaves.
        return (*terms, "E") if terms and free["E"] else tuple(terms)

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Predicted loss of runs with N parameters and D tokens, both (n,), in nats per token (n,)."""
        log_n, log_d = np.log(np.asarray(params, float)), np.log(np.asarray(tokens, float))
        return np.asarray(np.exp(log_loss(self.theta, log_n, log_d)))

    @property
    def allocation(self) -> dict[str, float]:
        """The parameters a, b and G of the best split."""
        return allocation.split_params(self.theta)


def fit_single_epoch(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    delta: float | None = None,
    constraint: ParameterConstraint | None = None,
    exhaustive: bool = False,
) -> SingleEpochFit:
    """Fit the single-epoch law to runs.

    Args:
        params: N, non-embedding parameters of each run.
        tokens: D, tokens seen.
        loss: test loss, nats per token.
        weights: weight of each run; 1 when None. A weight of 2 counts like the run given twice.
        delta: Huber's delta on ln L; from the scale of the residuals when None.
        constraint: fixed parameters, or alpha = beta (`ParameterConstraint.of`); all five are free when None.
        exhaustive: also descend from each of the 4,500 published starts. The starts on the plane of exponents have
            found the same optimum wherever this was tried.

    Raises:
        UserError: too few runs for the free parameters, or a bad value.
    """
    ladder = Ladder.of(params, tokens, loss, weights)
    constraint = constraint or ParameterConstraint.of()
    counted = ladder.weights > 0
    distinct = len(np.unique(np.stack([ladder.params[counted], ladder.tokens[counted]]), axis=1).T)
    if distinct <= constraint.free:
        raise UserError(
            f"{distinct} distinct runs cannot determine {constraint.free} parameters of the single-epoch law; "
            f"{constraint.free + 1} are the least, and 15 or more are wanted."
        )
    if np.ptp(ladder.loss[counted]) == 0:
        raise UserError(
            f"every loss is {ladder.loss[0]:g}, so no law of N and D shows in them; check the column."
        )
    require_delta(delta)
    if delta is None:
        delta = _delta_from_residuals(ladder, constraint)
    return _search(ladder, constraint, delta, published_starts() if exhaustive else None)


def require_delta(delta: float | None) -> None:
    """Refuse a delta that Huber's loss cannot have.

    Raises:
        UserError: not a finite number above zero.
    """
    if delta is not None and not (np.isfinite(delta) and delta > 0):
        raise UserError(f"delta is {delta:g}; a number above zero is wanted.")


def refit(fit: SingleEpochFit, log_losses: Array, weights: Array) -> Array:
    """Optima (S, 5) of S variants of a fit's data, each descended from the fit's optimum.

    Args:
        fit: the original fit.
        log_losses: (n,) or (S, n).
        weights: (n,) or (S, n); one of the two has S rows.
    """
    count = len(log_losses) if log_losses.ndim == 2 else len(weights)
    start = np.repeat(_with_restored_terms(fit)[None], count, axis=0)
    theta = _refit_from(fit, start, fit.constraint, log_losses, weights)
    for held in ((3,), (4,), EXPONENTS):
        left = (theta[:, held] <= 0).any(axis=1) if held == EXPONENTS else theta[:, held[0]] <= 0
        rows = np.flatnonzero(left)
        if len(rows):
            bounded = fit.constraint.holding(dict.fromkeys(held, MIN_EXPONENT))
            theta[rows] = _refit_from(
                fit,
                bounded.project(theta[rows]),
                bounded,
                log_losses[rows] if log_losses.ndim == 2 else log_losses,
                weights[rows] if weights.ndim == 2 else weights,
            )
    return theta


def _refit_from(
    fit: SingleEpochFit, start: Array, constraint: ParameterConstraint, log_losses: Array, weights: Array
) -> Array:
    """Optima (S, 5) from starts (S, 5) under a constraint."""
    centre = fit.ladder.centring
    found = minimise(
        fit.ladder.objective(fit.delta),
        centre.centred(start),
        log_losses,
        weights,
        basis=_basis(constraint, centre),
        settings=REFIT,
    )
    return centre.restored(found.theta)


def _with_restored_terms(fit: SingleEpochFit) -> Array:
    """Theta with every free term at RESTORED_SHARE of the loss or more: a vanished one has no gradient."""
    centre = fit.ladder.centring
    theta = centre.centred(fit.theta)  # there ln A and ln B are the sizes of their terms at the mean run
    least = float(fit.ladder.log_loss.mean()) + np.log(RESTORED_SHARE)
    if theta[:TERMS].min() >= least:
        return fit.theta
    theta[:TERMS] = np.maximum(theta[:TERMS], least)
    return np.asarray(fit.constraint.project(centre.restored(theta)[None])[0])


def residual_scale(residuals: Array, free: int) -> float:
    """Robust standard deviation: median |r| over that of a normal, corrected for `free` fitted parameters."""
    correction = len(residuals) / max(len(residuals) - free, 1)
    return float(np.median(np.abs(residuals)) / NORMAL_MEDIAN * np.sqrt(correction))


def noise_scale(residuals: Array, free: int) -> float:
    """Standard deviation of ln L around a law: robust, but no less than MIN_NOISE_SHARE of the corrected rms.

    Args:
        residuals: of ln L, (n,).
        free: number of fitted parameters.
    """
    corrected = np.sqrt(np.mean(residuals**2) * len(residuals) / max(len(residuals) - free, 1))
    return max(residual_scale(residuals, free), MIN_NOISE_SHARE * float(corrected))


def _basis(constraint: ParameterConstraint, centre: Centring) -> Array | None:
    """Free directions in centred coordinates; None when all are free."""
    return None if constraint.free == 5 else centre.matrix @ constraint.basis


def _delta_from_residuals(ladder: Ladder, constraint: ParameterConstraint) -> float:
    """Huber's delta at HUBER_EFFICIENCY robust deviations of the residuals, in three rounds from the paper's value."""
    fit = _search(ladder, constraint, PAPER_DELTA)
    for _ in range(2):
        fit = replace(fit, delta=_robust_delta(fit))
        fit = replace(fit, theta=refit(fit, ladder.log_loss[None], ladder.weights)[0])
    return _robust_delta(fit)


def _robust_delta(fit: SingleEpochFit) -> float:
    """Huber's delta from the median residual, which no outlier moves."""
    return max(HUBER_EFFICIENCY * residual_scale(fit.residuals, fit.constraint.free), MIN_DELTA)


def _search(
    ladder: Ladder, constraint: ParameterConstraint, delta: float, further_starts: Array | None = None
) -> SingleEpochFit:
    """The least minimum over the profiled starts and any further ones (S, 5)."""
    centre = ladder.centring
    objective, basis = ladder.objective(delta), _basis(constraint, centre)
    minima: list[OptimizerResult] = []
    for starts in (profiled_starts(ladder), further_starts):
        if starts is not None:
            start = centre.centred(constraint.project(starts))
            minima.append(
                minimise(
                    objective,
                    start,
                    ladder.log_loss,
                    ladder.weights,
                    basis=basis,
                    settings=NewtonSettings(racing=True),
                )
            )
    found = OptimizerResult.join(minima)
    _drop_vanished_terms(found, ladder, constraint, objective, basis)
    falling = np.asarray(found.theta[:, EXPONENTS].min(axis=1) > 0)
    value = np.where(falling, found.value, np.inf)
    best = int(np.argmin(value))
    if not falling[np.argmin(found.value)]:
        bounded = _search_at_bound(found, ladder, constraint, delta)
        if bounded.objective < value[best]:
            return bounded
    convergence = Convergence(
        starts=len(value),
        agreeing=int(np.sum(value <= value[best] * (1 + AGREEMENT_TOLERANCE) + 1e-24)),
        stalled=int(found.stalled.sum()),
        gradient=float(found.gradient[best]),
    )
    return SingleEpochFit(
        centre.restored(found.theta[best]), ladder, constraint, delta, float(value[best]), convergence
    )


def _search_at_bound(
    found: OptimizerResult, ladder: Ladder, constraint: ParameterConstraint, delta: float
) -> SingleEpochFit:
    """The fit with the exponents that are not above zero at the least objective held at MIN_EXPONENT."""
    theta = found.theta[np.argmin(found.value)]
    held = {k: MIN_EXPONENT for k in EXPONENTS if theta[k] <= 0}
    return replace(_search(ladder, constraint.holding(held), delta), constraint=constraint)


def _drop_vanished_terms(
    found: OptimizerResult,
    ladder: Ladder,
    constraint: ParameterConstraint,
    objective: SingleEpochObjective,
    basis: Array | None,
) -> None:
    """Remove the terms that vanish on the way to the optimum, and descend again from there.

    The logarithm of such a term falls without end and ever more slowly, so descents to one optimum seem to disagree.
    """
    free = constraint.basis[:TERMS].any(axis=1)
    least = float(ladder.log_loss.mean()) + np.log(VANISHED_SHARE)
    vanished = np.zeros(found.theta.shape, dtype=bool)
    vanished[:, :TERMS] = (found.theta[:, :TERMS] < least) & free
    rows = np.flatnonzero(vanished.any(axis=1) & (found.value <= (1 + NEAR_OPTIMUM) * found.value.min()))
    if len(rows):
        start = np.where(vanished[rows], found.theta[rows] - VANISHED_SHIFT, found.theta[rows])
        again = minimise(objective, start, ladder.log_loss, ladder.weights, basis=basis)
        lower = again.value <= found.value[rows]  # else the term was small but not zero
        for old, new in (
            (found.theta, again.theta),
            (found.value, again.value),
            (found.gradient, again.gradient),
        ):
            old[rows[lower]] = new[lower]
