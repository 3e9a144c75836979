"""Damped Newton steps for many small robust fits at once.

A problem is a point theta (p,) with data and weights of its own; S of them move as one batch of arrays. Each step
solves (H + lambda M) step = -gradient with H the exact Hessian and M the majoriser (see `QuadraticModel`). Lambda near
zero is Newton's method, which converges quadratically; a large lambda is a short step of reweighted least squares,
which always descends. Levenberg 1944 and Marquardt 1963 for the damping, Madsen and Nielsen 1993 for Newton steps on
Huber's function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

CHUNK = 65_536  # elements of an (S, n) array that stay in cache together; threads gain nothing on top
RACING_CHUNK = 2_000_000  # the same where problems race each other: as many in one batch as memory allows
MAX_STEP = 3.0  # of one coordinate; coordinates are logarithms or exponents, so this is a large step
RIDGE = 1e-9  # keeps the equations solvable where a term of the law has no share left
RACE_EVERY = 8  # steps between two comparisons of the problems
RACE_GAIN = 0.5  # a problem whose objective fell by less than this share since the last comparison ...
RACE_MARGIN = 1.5  # ... and is above this factor of the best one is given up


@dataclass(frozen=True)
class QuadraticModel:
    """Local model of S objectives at S points: value (S,), gradient (S, p), and matrix (S, p, p) = H + lambda M.

    H is the Hessian. The majoriser M is the Gauss-Newton matrix with the weights of iteratively reweighted least
    squares: never negative, and above H wherever the law is nearly linear. One weighted sum over runs gives both.
    """

    value: Array
    gradient: Array
    matrix: Array

    def take(self, rows: Mask) -> QuadraticModel:
        """The models of some problems."""
        return QuadraticModel(self.value[rows], self.gradient[rows], self.matrix[rows])

    def put(self, rows: Mask, other: QuadraticModel) -> None:
        """Replace the models of some problems."""
        self.value[rows], self.gradient[rows], self.matrix[rows] = other.value, other.gradient, other.matrix

    def within(self, basis: Array) -> QuadraticModel:
        """The same objectives along the columns of basis (p, q)."""
        return QuadraticModel(self.value, self.gradient @ basis, basis.T @ self.matrix @ basis)


# (theta (S, p), log losses (n,) or (S, n), weights (n,) or (S, n), lambda (S,)) -> local model
Objective = Callable[[Array, Array, Array, Array], QuadraticModel]


@dataclass(frozen=True)
class NewtonSettings:
    """How problems descend, and when they end."""

    damping: float = 1.0  # lambda of the first step; small where the start is known to be near
    tolerance: float = 1e-14  # predicted decrease, relative to the objective, that ends a problem
    max_steps: int = 150
    racing: bool = (
        False  # give up problems that stall far above the best: they are starts of one and the same problem
    )


@dataclass(frozen=True)
class OptimizerResult:
    """Where S descents ended: theta (S, p), value (S,), scaled gradient (S,), and which were given up (S,)."""

    theta: Array
    value: Array
    gradient: Array  # largest |gradient_k| / sqrt(matrix_kk * value): free of units, 0 at an optimum
    stalled: Mask

    @classmethod
    def join(cls, parts: list[OptimizerResult]) -> OptimizerResult:
        """The results of several batches, in their order."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def minimise(
    objective: Objective,
    start: Array,
    log_loss: Array,
    weights: Array,
    *,
    basis: Array | None = None,
    settings: NewtonSettings = NewtonSettings(),
) -> OptimizerResult:
    """Minimise S objectives from S starts.

    Args:
        objective: local models of S problems of the same n runs.
        start: (S, p).
        log_loss: (n,) shared by all problems, or (S, n).
        weights: the same.
        basis: (p, q) directions in which theta may move; every direction when None.
        settings: how problems descend, and when they end.
    """
    rows = max(1, (RACING_CHUNK if settings.racing else CHUNK) // log_loss.shape[-1])
    slices = [slice(at, min(at + rows, len(start))) for at in range(0, len(start), rows)]

    def descend(part: slice) -> OptimizerResult:
        own_loss = log_loss[part] if log_loss.ndim == 2 else log_loss
        own_weights = weights[part] if weights.ndim == 2 else weights
        return _Batch(objective, basis, start[part], own_loss, own_weights, settings).run()

    return OptimizerResult.join([descend(part) for part in slices])


class _Batch:
    """Problems that still descend, and the results of those that have ended."""

    def __init__(
        self,
        objective: Objective,
        basis: Array | None,
        start: Array,
        log_loss: Array,
        weights: Array,
        settings: NewtonSettings,
    ) -> None:
        self.objective, self.basis, self.settings = objective, basis, settings
        self.log_loss, self.weights = log_loss, weights
        self.theta = start.copy()
        size = len(start)
        self.damping = np.full(size, settings.damping)
        self.model = self._evaluate(start, slice(None), self.damping)
        self.live = np.arange(size)
        self.result = OptimizerResult(
            start.copy(), np.full(size, np.inf), np.full(size, np.inf), np.zeros(size, bool)
        )

    def run(self) -> OptimizerResult:
        before, best = self.model.value, np.inf
        last = self.settings.max_steps
        for number in range(1, last + 1):
            done = self._step()
            stalled = np.zeros_like(done)
            if self.settings.racing and number % RACE_EVERY == 0:
                best = min(best, float(self.model.value.min()))
                slow = before - self.model.value < RACE_GAIN * before
                stalled = slow & (self.model.value > RACE_MARGIN * best) & ~done
                before = self.model.value
            # Compacting the arrays costs about a step, so it waits until a fifth of the problems has ended.
            if np.mean(done | stalled) > 0.2 or number == last:
                ended = np.ones_like(done) if number == last else done | stalled
                self._end(ended, stalled)
                before = before[~ended]
            if not len(self.live):
                break
        return self.result

    def _evaluate(self, theta: Array, rows: Mask | slice, damping: Array) -> QuadraticModel:
        log_loss = self.log_loss[rows] if self.log_loss.ndim == 2 else self.log_loss
        weights = self.weights[rows] if self.weights.ndim == 2 else self.weights
        model = self.objective(theta, log_loss, weights, damping)
        return model if self.basis is None else model.within(self.basis)

    def _step(self) -> Mask:
        """Move every live problem once if that lowers its objective; returns which are at their optimum (live,)."""
        model, tolerance = self.model, self.settings.tolerance
        step = _damped_newton(model)
        predicted = -np.einsum("sp,sp->s", step, model.gradient)
        # Where the damped Hessian still has a negative direction the step may climb: take the opposite one.
        step = np.where(predicted[:, None] >= 0, step, -step)
        length = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1.0, MAX_STEP / np.maximum(length, MAX_STEP))
        trial = self.theta + (step if self.basis is None else step @ self.basis.T)

        eased = np.maximum(self.damping / 8, 1e-12)
        at_trial = self._evaluate(trial, slice(None), eased)
        better = at_trial.value < model.value
        gain = model.value - at_trial.value
        done = (np.abs(predicted) <= tolerance * model.value) | (self.damping > 1e12) | (model.value <= 1e-28)
        done |= better & (gain <= 0.1 * tolerance * model.value)

        self.theta = np.where(better[:, None], trial, self.theta)
        self.damping = np.where(better, eased, np.maximum(self.damping * 6, 1e-4))
        worse = ~better
        if worse.any():  # the same point again, with stronger damping
            at_trial.put(worse, self._evaluate(self.theta[worse], worse, self.damping[worse]))
        self.model = at_trial
        return np.asarray(done)

    def _end(self, ended: Mask, stalled: Mask) -> None:
        at, model = self.live[ended], self.model.take(ended)
        self.result.theta[at] = self.theta[ended]
        self.result.value[at] = model.value
        self.result.gradient[at] = _scaled_gradient(model)
        self.result.stalled[at] = stalled[ended]
        self.live, self.theta, self.damping = self.live[~ended], self.theta[~ended], self.damping[~ended]
        self.model = self.model.take(~ended)
        if self.log_loss.ndim == 2:
            self.log_loss = self.log_loss[~ended]
        if self.weights.ndim == 2:
            self.weights = self.weights[~ended]


def _damped_newton(model: QuadraticModel) -> Array:
    diagonal = np.abs(np.einsum("sii->si", model.matrix))
    left = model.matrix.copy()
    np.einsum("sii->si", left)[...] += RIDGE * (diagonal + diagonal.max(axis=1, keepdims=True)) + 1e-300
    return np.linalg.solve(left, -model.gradient[..., None])[..., 0]


def _scaled_gradient(model: QuadraticModel) -> Array:
    diagonal = np.abs(np.einsum("sii->si", model.matrix))
    # A direction in which nothing is left to gain (a vanished term) must not be scaled up to look steep.
    diagonal = np.maximum(diagonal, 1e-6 * diagonal.max(axis=1, keepdims=True))
    scale = np.sqrt(np.maximum(diagonal * model.value[:, None], 1e-300))
    steepest = np.where(model.value[:, None] > 1e-28, np.abs(model.gradient) / scale, 0.0)
    return np.asarray(np.max(steepest, axis=1))
