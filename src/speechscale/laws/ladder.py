"""The runs of a fit as arrays, and constraints on the parameters of the single-epoch law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from speechscale.errors import UserError
from speechscale.laws.forms import NAMES, TERMS, Centring, SingleEpochObjective
from speechscale.laws.minimise import Array
from speechscale.records.flops import training_flops


@dataclass(frozen=True)
class Ladder:
    """Runs as float64 arrays (n,): parameters N, tokens D and losses, all above zero, and a weight each."""

    params: Array
    tokens: Array
    loss: Array
    weights: Array

    @classmethod
    def of(
        cls, params: ArrayLike, tokens: ArrayLike, loss: ArrayLike, weights: ArrayLike | None = None
    ) -> Ladder:
        """Runs from anything array-like.

        Args:
            params: N, non-embedding parameters of each run.
            tokens: D, tokens seen.
            loss: test loss, nats per token.
            weights: weight of each run; 1 when None.

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
                    f"{name}: shape {values.shape} with {columns['loss'].shape} losses; one value a run is wanted."
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
        """Ln N, (n,)."""
        return np.log(self.params)

    @property
    def log_d(self) -> Array:
        """Ln D, (n,)."""
        return np.log(self.tokens)

    @property
    def log_loss(self) -> Array:
        """Ln L, (n,)."""
        return np.log(self.loss)

    @property
    def flops(self) -> Array:
        """6 N D, (n,)."""
        return training_flops(self.params, self.tokens)

    @property
    def centring(self) -> Centring:
        """The shift of ln N and ln D to mean zero over these runs."""
        return Centring(float(self.log_n.mean()), float(self.log_d.mean()))

    def objective(self, delta: float) -> SingleEpochObjective:
        """The objective of a fit with Huber's delta, in centred coordinates."""
        centre = self.centring
        return SingleEpochObjective(self.log_n - centre.log_n, self.log_d - centre.log_d, delta)

    def take(self, rows: np.ndarray) -> Ladder:
        """Some of the runs."""
        return Ladder(self.params[rows], self.tokens[rows], self.loss[rows], self.weights[rows])


def _numbers(name: str, values: ArrayLike) -> Array:
    """As floating point before any product: 6 N D does not fit 64 bits."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: not a column of numbers ({error}); one number a run is wanted.") from error


@dataclass(frozen=True)
class ParameterConstraint:
    """Affine subspace theta = origin + basis @ free: which parameters are fixed, and whether alpha = beta."""

    origin: Array  # (5,)
    basis: Array  # (5, q)

    @classmethod
    def of(cls, tied: bool = False, fixed: Mapping[str, float] | None = None) -> ParameterConstraint:
        """The constraint that ties alpha and beta, or fixes parameters by name.

        Raises:
            UserError: an unknown parameter, a value not above zero, a contradiction, or nothing left to fit.
        """
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
        """Number of free parameters."""
        return int(self.basis.shape[1])

    def project(self, theta: Array) -> Array:
        """The nearest theta (S, 5) that obeys the constraint."""
        return self.origin + (theta - self.origin) @ np.linalg.pinv(self.basis).T @ self.basis.T

    def holding(self, values: Mapping[int, float]) -> ParameterConstraint:
        """The same constraint with further entries of theta held at a value; a tied exponent holds its partner too."""
        origin, basis = self.origin.copy(), self.basis
        for k, value in values.items():
            moving = basis[k] != 0
            origin += basis[:, moving].sum(axis=1) * (value - origin[k])
            basis = basis[:, ~moving]
        return ParameterConstraint(origin, basis)
