"""Damped Newton steps for many small robust fits at once.

A problem is a point theta (p,) with data and weights of its own; S of them move as one batch of arrays. Each step
solves (H + lambda M) step = -gradient with H the exact Hessian and M the majoriser (`Normal`): lambda small is
Newton's method, which ends quadratically; lambda large is a short step of reweighted least squares, which descends.
Levenberg 1944 and Marquardt 1963 for the damping, Madsen and Nielsen 1993 for Newton steps on Huber's function.
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
RACE_CHUNK = 2_000_000  # the same where problems race each other: as many in one batch as memory allows
LARGEST_STEP = 3.0  # of one coordinate; coordinates are logarithms or exponents, so this is far
RIDGE = 1e-9  # keeps the equations solvable where a term of the law has no share left
TOLERANCE = 1e-14  # predicted decrease, relative to the objective, that ends a problem
RACE_EVERY = 8  # steps between two looks at which starts have stalled
RACE_GAIN = 0.5  # a start that gained less than this share between two looks …
RACE_MARGIN = 1.5  # … and stands this much above the best one is given up


@dataclass(frozen=True)
class QuadraticModel:
    """Local picture of S objectives at S points: value (S,), gradient (S, p), and matrix (S, p, p) = H + lambda M.

    H is the Hessian. The majoriser M is the Gauss-Newton matrix with the weights of iteratively reweighted least
    squares: never negative, and above H wherever the law is nearly linear. One weighted sum over runs gives both.
    """

    value: Array
    gradient: Array
    matrix: Array

    def take(self, rows: Mask) -> QuadraticModel:
        return QuadraticModel(self.value[rows], self.gradient[rows], self.matrix[rows])

    def put(self, rows: Mask, other: QuadraticModel) -> None:
        self.value[rows], self.gradient[rows], self.matrix[rows] = other.value, other.gradient, other.matrix

    def within(self, basis: Array) -> QuadraticModel:
        """The same objectives seen along the columns of basis (p, q)."""
        return QuadraticModel(self.value, self.gradient @ basis, basis.T @ self.matrix @ basis)


# (theta (S, p), log losses (n,) or (S, n), weights (n,) or (S, n), lambda (S,)) -> local picture
Objective = Callable[[Array, Array, Array, Array], QuadraticModel]


@dataclass(frozen=True)
class Minimum:
    """Where S descents ended: theta (S, p), value (S,), scaled gradient (S,), and whether each was given up."""

    theta: Array
    value: Array
    slope: Array  # largest |gradient_k| / sqrt(matrix_kk * value): free of units, 0 at an optimum
    stalled: Mask


def minimise(
    objective: Objective,
    start: Array,
    log_loss: Array,
    weights: Array,
    *,
    basis: Array | None = None,
    race: bool = False,
    damping: float = 1.0,
    tolerance: float = TOLERANCE,
    steps: int = 150,
) -> Minimum:
    """Minimise S objectives from S starts.

    Args:
        start: (S, p).
        log_loss: (n,) shared by all problems, or (S, n).
        weights: the same.
        basis: (p, q) directions in which theta may move; every direction when None.
        race: give up problems that stall far above the best: they are starts of one and the same problem.
        damping: lambda of the first step; small where the start is known to be near.
        tolerance: predicted decrease, relative to the objective, that ends a problem.
        steps: most Newton steps of one problem.
    """
    rows = max(1, (RACE_CHUNK if race else CHUNK) // log_loss.shape[-1])
    slices = [slice(at, min(at + rows, len(start))) for at in range(0, len(start), rows)]

    def descend(part: slice) -> Minimum:
        batch = _Batch(
            objective,
            basis,
            start[part],
            log_loss[part] if log_loss.ndim == 2 else log_loss,
            weights[part] if weights.ndim == 2 else weights,
            damping,
            tolerance,
        )
        return batch.run(steps, race)

    parts = [descend(part) for part in slices]
    return Minimum(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Minimum.__dataclass_fields__)
    )


class _Batch:
    """Problems under way, and the results of those that have ended."""

    def __init__(
        self,
        objective: Objective,
        basis: Array | None,
        start: Array,
        log_loss: Array,
        weights: Array,
        damping: float,
        tolerance: float,
    ) -> None:
        self.objective, self.basis = objective, basis
        self.log_loss, self.weights = log_loss, weights
        self.theta = start.copy()
        self.tolerance = tolerance
        self.damping = np.full(len(start), damping)
        self.here = self._look(start, slice(None), self.damping)
        self.live = np.arange(len(start))
        size = len(start)
        self.ended = Minimum(start.copy(), np.full(size, np.inf), np.full(size, np.inf), np.zeros(size, bool))

    def run(self, steps: int, race: bool) -> Minimum:
        before, best = self.here.value, np.inf
        for taken in range(1, steps + 1):
            done = self._step()
            stalled = np.zeros_like(done)
            if race and taken % RACE_EVERY == 0:
                best = min(best, float(self.here.value.min()))
                slow = before - self.here.value < RACE_GAIN * before
                stalled = slow & (self.here.value > RACE_MARGIN * best) & ~done
                before = self.here.value
            # Compacting the arrays costs about a step, so it waits until it pays.
            if np.mean(done | stalled) > 0.2 or taken == steps:
                rest = np.ones_like(done) if taken == steps else done | stalled
                self._end(rest, stalled)
                before = before[~rest]
            if not len(self.live):
                break
        return self.ended

    def _look(self, theta: Array, rows: Mask | slice, damping: Array) -> QuadraticModel:
        log_loss = self.log_loss[rows] if self.log_loss.ndim == 2 else self.log_loss
        weights = self.weights[rows] if self.weights.ndim == 2 else self.weights
        normal = self.objective(theta, log_loss, weights, damping)
        return normal if self.basis is None else normal.within(self.basis)

    def _step(self) -> Mask:
        """Move every live problem once if that lowers its objective; returns which are at their optimum."""
        here = self.here
        step = _damped_newton(here)
        predicted = -np.einsum("sp,sp->s", step, here.gradient)
        # Where the damped Hessian still has a negative direction the step may climb: go the other way.
        step = np.where(predicted[:, None] >= 0, step, -step)
        length = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1.0, LARGEST_STEP / np.maximum(length, LARGEST_STEP))
        trial = self.theta + (step if self.basis is None else step @ self.basis.T)

        eased = np.maximum(self.damping / 8, 1e-12)
        there = self._look(trial, slice(None), eased)
        better = there.value < here.value
        gain = here.value - there.value
        done = (
            (np.abs(predicted) <= self.tolerance * here.value) | (self.damping > 1e12) | (here.value <= 1e-28)
        )
        done |= better & (gain <= 0.1 * self.tolerance * here.value)

        self.theta = np.where(better[:, None], trial, self.theta)
        self.damping = np.where(better, eased, np.maximum(self.damping * 6, 1e-4))
        worse = ~better
        if worse.any():  # the same point again, under a stronger damping
            there.put(worse, self._look(self.theta[worse], worse, self.damping[worse]))
        self.here = there
        return done

    def _end(self, rest: Mask, stalled: Mask) -> None:
        at, here = self.live[rest], self.here.take(rest)
        self.ended.theta[at] = self.theta[rest]
        self.ended.value[at] = here.value
        self.ended.slope[at] = _scaled_slope(here)
        self.ended.stalled[at] = stalled[rest]
        self.live, self.theta, self.damping = self.live[~rest], self.theta[~rest], self.damping[~rest]
        self.here = self.here.take(~rest)
        if self.log_loss.ndim == 2:
            self.log_loss = self.log_loss[~rest]
        if self.weights.ndim == 2:
            self.weights = self.weights[~rest]


def _damped_newton(here: QuadraticModel) -> Array:
    diagonal = np.abs(np.einsum("sii->si", here.matrix))
    left = here.matrix.copy()
    np.einsum("sii->si", left)[...] += RIDGE * (diagonal + diagonal.max(axis=1, keepdims=True)) + 1e-300
    return np.linalg.solve(left, -here.gradient[..., None])[..., 0]


def _scaled_slope(here: QuadraticModel) -> Array:
    diagonal = np.abs(np.einsum("sii->si", here.matrix))
    # A direction in which nothing is left to gain (a vanished term) must not be scaled up to look steep.
    diagonal = np.maximum(diagonal, 1e-6 * diagonal.max(axis=1, keepdims=True))
    scale = np.sqrt(np.maximum(diagonal * here.value[:, None], 1e-300))
    return np.max(np.where(here.value[:, None] > 1e-28, np.abs(here.gradient) / scale, 0.0), axis=1)
