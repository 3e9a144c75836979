"""Fit of L(N, D) = E + A/N^alpha + B/D^beta to runs that saw every token once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.forms import NAMES, TERMS, Centring, SingleEpoch, log_loss, named
from speechscale.laws.minimise import Array, Minimum, minimise
from speechscale.records.law_sections import Convergence

PAPER_DELTA = 0.03  # Cuervo and Marxer 2024
EFFICIENT = 1.345  # residual deviations inside delta: 95 % efficiency under normal noise (Huber 1981)
EXPONENTS = np.unique(np.append(np.geomspace(0.03, 2.0, 11), [0.5, 1.0, 1.5]))  # 0 itself would duplicate E
SMALLEST_DELTA = 1e-6  # below this the objective is a kink to double precision
NEAR = 0.1  # damping of a descent that begins at the optimum of nearly the same runs
ENOUGH = 1e-6  # predicted relative decrease that ends it: the last step still squares the error
LIFTED = (
    0.01  # share of the loss that a term which vanished in the fit starts with when other data are fitted
)
GONE = 1e-4  # share of the loss below which a term has vanished …
FAR = 40.0  # … and by how much its logarithm is lowered to take it away
NEARLY = 1e-3  # relative distance to the least objective up to which descents are followed up for it
AGREE = 1e-8  # relative distance to the least objective at which a start has reached it
FLAT = 1e-5  # scaled gradient at which a minimum is one


@dataclass(frozen=True)
class Ladder:
    """Runs as arrays (n,): parameters N, tokens D and losses, all above zero, and a weight each."""

    params: Array
    tokens: Array
    loss: Array
    weights: Array

    @classmethod
    def of(
        cls, params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, weights: ArrayLike | None = None
    ) -> Ladder:
        """Runs from anything array-like.

        Raises:
            UserError: lengths differ, or a value is not finite or not above zero.
        """
        columns = {
            name: _numbers(name, values)
            for name, values in {"params": params, "tokens": tokens, "loss": loss}.items()
        }
        columns["weights"] = (
            np.ones_like(columns["loss"]) if weights is None else _numbers("weights", weights)
        )
        for name, values in columns.items():
            if values.ndim != 1 or len(values) != len(columns["loss"]):
                raise UserError(
                    f"{name}: shape {values.shape} beside {columns['loss'].shape} losses; one value a run."
                )
            wrong = ~(np.isfinite(values) & (values >= 0 if name == "weights" else values > 0))
            if wrong.any():
                at = int(np.argmax(wrong))
                raise UserError(
                    f"{name}: run {at + 1} holds {values[at]}; a finite number above zero is wanted."
                )
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def log_n(self) -> Array:
        return np.log(self.params)

    @property
    def log_d(self) -> Array:
        return np.log(self.tokens)

    @property
    def log_loss(self) -> Array:
        return np.log(self.loss)

    @property
    def flops(self) -> Array:
        return 6.0 * self.params * self.tokens

    @property
    def centring(self) -> Centring:
        return Centring(float(self.log_n.mean()), float(self.log_d.mean()))

    def objective(self, delta: float) -> SingleEpoch:
        """The normal equations in centred coordinates."""
        centre = self.centring
        return SingleEpoch(self.log_n - centre.log_n, self.log_d - centre.log_d, delta)

    def take(self, rows: Array) -> Ladder:
        return Ladder(self.params[rows], self.tokens[rows], self.loss[rows], self.weights[rows])


def _numbers(name: str, values: ArrayLike) -> Array:
    """As floating point before any product: 6 N D does not fit 64 bits."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: not a column of numbers ({error}); one number a run is wanted.") from error


@dataclass(frozen=True)
class Constraint:
    """theta = origin + basis @ free: which parameters are fixed, and whether alpha and beta are one."""

    origin: Array  # (5,)
    basis: Array  # (5, q)

    @classmethod
    def of(cls, tied: bool, fixed: Mapping[str, float] | None) -> Constraint:
        fixed = dict(fixed or {})
        unknown = [name for name in fixed if name not in NAMES]
        if unknown:
            raise UserError(f"cannot fix {unknown[0]!r}; the parameters are {', '.join(NAMES)}.")
        if tied and {"alpha", "beta"} & fixed.keys():
            raise UserError("alpha and beta are tied, so neither can be fixed; drop one of the two options.")
        origin, columns = np.zeros(5), []
        for k, name in enumerate(NAMES):
            if name in fixed:
                if not (np.isfinite(fixed[name]) and fixed[name] > 0):
                    raise UserError(f"{name} is fixed at {fixed[name]:g}; a value above zero is wanted.")
                origin[k] = np.log(fixed[name]) if k < TERMS else fixed[name]
            elif not (tied and name == "beta"):
                column = np.eye(5)[k]
                columns.append(column + np.eye(5)[4] if tied and name == "alpha" else column)
        if not columns:
            raise UserError(
                "all five parameters are fixed, so nothing is left to fit; leave one of them free."
            )
        return cls(origin, np.stack(columns, axis=1))

    @property
    def free(self) -> int:
        return self.basis.shape[1]

    def project(self, theta: Array) -> Array:
        """The nearest theta (S, 5) that obeys."""
        return self.origin + (theta - self.origin) @ np.linalg.pinv(self.basis).T @ self.basis.T


@dataclass(frozen=True)
class SingleEpochFit:
    """A fitted law: theta (5,), and what is needed to judge it and to draw from its neighbourhood."""

    theta: Array
    ladder: Ladder
    constraint: Constraint
    delta: float
    objective: float  # sum over runs of Huber(ln L residual)
    convergence: Convergence

    @property
    def converged(self) -> bool:
        """Whether several starts agree on the optimum and its gradient is nothing; no optimiser's flag is asked."""
        return self.convergence.agreeing >= 2 and self.convergence.gradient < FLAT

    @property
    def params(self) -> dict[str, float]:
        return named(self.theta)

    @property
    def residuals(self) -> Array:
        """ln predicted - ln observed, (n,)."""
        return log_loss(self.theta, self.ladder.log_n, self.ladder.log_d) - self.ladder.log_loss

    @property
    def noise(self) -> float:
        """Robust standard deviation of the residuals, with the degrees of freedom of the fit taken off."""
        return residual_scale(self.residuals, self.constraint.free)

    def loss(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return np.exp(
            log_loss(self.theta, np.log(np.asarray(params, float)), np.log(np.asarray(tokens, float)))
        )

    @property
    def allocation(self) -> dict[str, float]:
        return allocation.exponents(self.theta)


def fit_single_epoch(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    delta: float | None = None,
    tied: bool = False,
    fixed: Mapping[str, float] | None = None,
    exhaustive: bool = False,
) -> SingleEpochFit:
    """Fit the single-epoch law to runs.

    Args:
        params: N, non-embedding parameters of each run.
        tokens: D, tokens seen.
        loss: test loss, nats per token.
        weights: weight of each run; 1 when None. A weight of 2 counts like the run given twice.
        delta: Huber's delta on ln L; from the scale of the residuals when None.
        tied: alpha = beta.
        fixed: parameters held at given values, by name.
        exhaustive: descend from each of the 4,500 published starts as it stands as well, terms that have vanished
            and all; the starts left after A, B and E are eliminated have found the same optimum wherever tried.

    Raises:
        UserError: too few runs for the free parameters, or a bad value.
    """
    ladder = Ladder.of(params, tokens, loss, weights)
    constraint = Constraint.of(tied, fixed)
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
    """Refuse a Huber delta that is none."""
    if delta is not None and not (np.isfinite(delta) and delta > 0):
        raise UserError(f"delta is {delta:g}; a number above zero is wanted.")


def refit(fit: SingleEpochFit, log_losses: Array, weights: Array) -> Array:
    """Optima (S, 5) of S variants of a fit's data, each descended from the fit's optimum.

    Args:
        log_losses: (n,) or (S, n).
        weights: (n,) or (S, n); one of the two has S rows.
    """
    centre = fit.ladder.centring
    count = len(log_losses) if log_losses.ndim == 2 else len(weights)
    start = np.repeat(centre.centred(_lifted(fit))[None], count, axis=0)
    found = minimise(
        fit.ladder.objective(fit.delta),
        start,
        log_losses,
        weights,
        basis=_basis(fit.constraint, centre),
        damping=NEAR,
        tolerance=ENOUGH,
    )
    return centre.restored(found.theta)


def _lifted(fit: SingleEpochFit) -> Array:
    """theta with every free term at LIFTED of the loss or more: one that vanished has no slope to come back by."""
    centre = fit.ladder.centring
    theta = centre.centred(fit.theta)  # there ln A and ln B are the sizes of their terms at the mean run
    least = float(fit.ladder.log_loss.mean()) + np.log(LIFTED)
    if theta[:TERMS].min() >= least:
        return fit.theta
    theta[:TERMS] = np.maximum(theta[:TERMS], least)
    return fit.constraint.project(centre.restored(theta)[None])[0]


def residual_scale(residuals: Array, free: int) -> float:
    """Robust standard deviation: median |r| over that of a normal, corrected for `free` fitted parameters."""
    spare = len(residuals) / max(len(residuals) - free, 1)
    return float(np.median(np.abs(residuals)) / 0.6744897501960817 * np.sqrt(spare))


def published_starts() -> Array:
    """The 4,500 starts of Hoffmann et al. 2022, appendix D.3, as theta (4500, 5)."""
    terms = np.arange(0.0, 26.0, 5.0)
    exponents = np.arange(0.0, 2.1, 0.5)
    return np.array(list(product(terms, terms, np.arange(-1.0, 1.1, 0.5), exponents, exponents)))


def profiled_starts(ladder: Ladder, exponents: Array = EXPONENTS) -> Array:
    """Starts (S, 5) on a plane of exponents, with A, B and E optimal for each by relative least squares.

    At fixed exponents the law is linear in A, B and E (variable projection: Golub and Pereyra 1973). Eliminating them
    leaves 25 of the 4,500 published starts, one for each pair of exponents; the plane holds these and fills it up.
    No start on it begins where a term of the law has vanished.
    """
    alpha, beta = (axis.ravel() for axis in np.meshgrid(exponents, exponents, indexing="ij"))
    centre = ladder.centring
    columns = np.stack(
        [
            np.exp(-alpha[:, None] * (ladder.log_n - centre.log_n)),
            np.exp(-beta[:, None] * (ladder.log_d - centre.log_d)),
            np.ones((len(alpha), len(ladder))),
        ],
        axis=-1,
    )
    columns *= (np.sqrt(ladder.weights) / ladder.loss)[:, None]
    terms = _non_negative(columns, np.broadcast_to(np.sqrt(ladder.weights), columns.shape[:2]))
    smallest = 1e-3 * terms.max(axis=1, keepdims=True)  # a term at zero could never come back
    centred = np.column_stack([np.log(np.maximum(terms, smallest)), alpha, beta])
    return centre.restored(centred)


def _non_negative(columns: Array, target: Array) -> Array:
    """Least squares (S, n, 3) onto (S, n) with coefficients >= 0: the best of the seven sets of active columns."""
    gram = np.swapaxes(columns, 1, 2) @ columns
    cross = np.einsum("snk,sn->sk", columns, target)
    best, least = np.zeros_like(cross), np.full(len(cross), np.inf)
    for active in product((False, True), repeat=3):
        at = np.flatnonzero(active)
        if not len(at):
            continue
        block = gram[:, at[:, None], at] + 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(
            len(at)
        )
        found = np.zeros_like(cross)
        found[:, at] = np.linalg.solve(block, cross[:, at, None])[..., 0]
        value = np.einsum("sk,skl,sl->s", found, gram, found) - 2 * np.einsum("sk,sk->s", found, cross)
        better = (value < least) & (found >= 0).all(axis=1)
        best[better], least[better] = found[better], value[better]
    return best


def _basis(constraint: Constraint, centre: Centring) -> Array | None:
    """Free directions in centred coordinates; None when all are free."""
    return None if constraint.free == 5 else centre.matrix @ constraint.basis


def _delta_from_residuals(ladder: Ladder, constraint: Constraint) -> float:
    """Huber's delta at EFFICIENT robust deviations of the residuals, from the paper's value in three rounds."""
    fit = _search(ladder, constraint, PAPER_DELTA)
    for _ in range(2):
        fit = replace(fit, delta=max(EFFICIENT * fit.noise, SMALLEST_DELTA))
        fit = replace(fit, theta=refit(fit, ladder.log_loss[None], ladder.weights)[0])
    return max(EFFICIENT * fit.noise, SMALLEST_DELTA)


def _search(
    ladder: Ladder, constraint: Constraint, delta: float, further_starts: Array | None = None
) -> SingleEpochFit:
    """The least minimum over the profiled starts and further ones."""
    centre = ladder.centring
    objective, basis = ladder.objective(delta), _basis(constraint, centre)
    minima: list[Minimum] = []
    for starts in (profiled_starts(ladder), further_starts):
        if starts is not None:
            start = centre.centred(constraint.project(starts))
            minima.append(minimise(objective, start, ladder.log_loss, ladder.weights, basis=basis, race=True))
    found = Minimum(
        *(np.concatenate([getattr(m, name) for m in minima]) for name in Minimum.__dataclass_fields__)
    )
    _let_go(found, ladder, constraint, objective, basis)
    value = found.value
    best = int(np.argmin(value))
    convergence = Convergence(
        starts=len(value),
        agreeing=int(np.sum(value <= value[best] * (1 + AGREE) + 1e-24)),
        stalled=int(found.stalled.sum()),
        gradient=float(found.slope[best]),
    )
    return SingleEpochFit(
        centre.restored(found.theta[best]), ladder, constraint, delta, float(value[best]), convergence
    )


def _let_go(
    found: Minimum, ladder: Ladder, constraint: Constraint, objective: SingleEpoch, basis: Array | None
) -> None:
    """Where a term vanishes on the way to the optimum, take it away and descend again from there.

    Its logarithm would fall for ever, ever more slowly, and descents to one optimum would seem to disagree.
    """
    free = constraint.basis[:TERMS].any(axis=1)
    least = float(ladder.log_loss.mean()) + np.log(GONE)
    gone = np.zeros(found.theta.shape, dtype=bool)
    gone[:, :TERMS] = (found.theta[:, :TERMS] < least) & free
    rows = np.flatnonzero(gone.any(axis=1) & (found.value <= (1 + NEARLY) * found.value.min()))
    if len(rows):
        start = np.where(gone[rows], found.theta[rows] - FAR, found.theta[rows])
        again = minimise(objective, start, ladder.log_loss, ladder.weights, basis=basis)
        lower = again.value <= found.value[rows]  # else the term was small, and not nothing
        for old, new in ((found.theta, again.theta), (found.value, again.value), (found.slope, again.slope)):
            old[rows[lower]] = new[lower]
