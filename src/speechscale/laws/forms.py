"""The loss law L(N, D) = E + A/N^alpha + B/D^beta in logarithms, and the objective of its robust fit.

Shapes: S problems at once (starts, resamples, left-out runs), n runs, theta (S, 5) = (ln A, ln B, ln E, alpha, beta),
log_loss (S, n). Arrays are float64.

Law and log-sum-exp parametrisation: Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3 and appendix D.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.minimise import Array, QuadraticModel

NAMES = ("A", "B", "E", "alpha", "beta")  # order of theta; the first three enter as logarithms
TERMS = 3  # how many of them
MAX_LOG = (
    700.0  # logarithm of the largest term in a file: exp() of more is infinite, and JSON has no infinity
)


def to_theta(values: dict[str, float]) -> Array:
    """Theta (5,) of a law given by name."""
    return np.array([np.log(values[name]) if k < TERMS else values[name] for k, name in enumerate(NAMES)])


def to_values(theta: Array) -> Array:
    """A, B, E, alpha, beta (..., 5) of theta (..., 5): the first three themselves in place of their logarithms."""
    values = np.array(theta, dtype=float)
    values[..., :TERMS] = np.exp(np.minimum(values[..., :TERMS], MAX_LOG))
    return values


def named(theta: Array) -> dict[str, float]:
    """The parameters by name of one theta (5,)."""
    return dict(zip(NAMES, to_values(theta).tolist(), strict=True))


def log_terms(theta: Array, log_n: Array, log_d: Array) -> tuple[Array, Array, Array]:
    """Logarithms of the three terms A/N^alpha and B/D^beta (S, n) and E (S, 1), at theta (S, 5)."""
    a, b, e, alpha, beta = (theta[..., k, None] for k in range(5))
    return a - alpha * log_n, b - beta * log_d, e


def shape_of(theta: Array) -> tuple[Array, Array]:
    """Gamma and c (...) of theta (..., 5) or (..., 7); 1 and 0 where theta has five columns."""
    if theta.shape[-1] == len(NAMES):
        return np.ones(theta.shape[:-1]), np.zeros(theta.shape[:-1])
    return np.exp(theta[..., 5]), np.asarray(theta[..., 6])


def log_loss(theta: Array, log_n: Array, log_d: Array) -> Array:
    """Ln L (..., n) of n runs; no overflow, and NaN where a parameter is not finite.

    Args:
        theta: (..., 5), or (..., 7) with ln gamma and c of L = E + (A/N^alpha + B N^c/D^beta)^gamma.
        log_n: ln N, (..., n).
        log_d: ln D, the same.
    """
    of_n, of_d, e = log_terms(theta, log_n, log_d)
    gamma, c = (shape[..., None] for shape in shape_of(theta))
    # A draw of a weak law may have no best split, so that its N and D are NaN or infinite.
    with np.errstate(invalid="ignore"):
        return np.logaddexp(gamma * np.logaddexp(of_n, of_d + c * log_n), e)


def huber(residual: Array, delta: float) -> Array:
    """Huber's loss of each residual: r^2/2 up to delta, delta (|r| - delta/2) beyond (Huber 1964)."""
    clipped = np.clip(residual, -delta, delta)
    return np.asarray(clipped * (residual - 0.5 * clipped))


@dataclass(frozen=True)
class Centring:
    """Shift of ln N and ln D to mean zero, after which ln A and ln B are nearly independent of alpha and beta.

    The fit uses centred coordinates, in which a law is theta @ matrix.T.
    """

    log_n: float
    log_d: float

    @property
    def matrix(self) -> Array:
        """From theta to centred coordinates, (5, 5)."""
        centre = np.eye(5)
        centre[0, 3], centre[1, 4] = -self.log_n, -self.log_d
        return centre

    def centred(self, theta: Array) -> Array:
        """Theta (..., 5) in centred coordinates."""
        return np.asarray(theta @ self.matrix.T)

    def restored(self, theta: Array) -> Array:
        """Theta (..., 5) of centred coordinates."""
        return np.asarray(theta @ np.linalg.inv(self.matrix).T)


class SingleEpochObjective:
    """The objective sum_i w_i Huber_delta(ln L(N_i, D_i; theta) - ln L_i), for many theta at once.

    Every derivative of ln L is a share of the loss times 1, ln N or ln D. So all sums over runs are products of
    (S, n) arrays with a few fixed columns, and no (S, n, 5) Jacobian is needed.
    """

    def __init__(self, log_n: Array, log_d: Array, delta: float) -> None:
        self.log_n, self.log_d, self.delta = log_n, log_d, delta
        one = np.ones_like(log_n)
        self._line_n, self._line_d = np.stack([one, -log_n]), np.stack([one, -log_d])
        self._powers_n = np.stack([one, -log_n, log_n**2], axis=1)
        self._powers_d = np.stack([one, -log_d, log_d**2], axis=1)
        self._cross = np.stack([one, -log_n, -log_d, log_n * log_d], axis=1)

    def __call__(self, theta: Array, log_loss: Array, weights: Array, damping: Array) -> QuadraticModel:
        """The local models at S points; see `minimise.Objective` for the shapes."""
        shares, residual = self._shares(theta, log_loss)
        clipped = np.clip(residual, -self.delta, self.delta)
        pull = weights * clipped
        value = np.einsum("sn,sn->s", pull, residual - 0.5 * clipped)

        pulls_n = (pull * shares[0]) @ self._powers_n
        pulls_d = (pull * shares[1]) @ self._powers_d
        pull_e = np.einsum("sn,sn->s", pull, shares[2])
        gradient = np.column_stack([pulls_n[:, 0], pulls_d[:, 0], pull_e, pulls_n[:, 1], pulls_d[:, 1]])

        trust = self.delta / np.maximum(np.abs(residual), self.delta)  # 1 inside delta, falling outside
        matrix = self._gram(weights * ((trust == 1.0) + damping[:, None] * trust) - pull, *shares)
        matrix += _second_derivatives(pulls_n, pulls_d, pull_e)
        return QuadraticModel(value, gradient, matrix)

    def jacobian(self, theta: Array) -> Array:
        """The derivatives d ln L / d theta (n, 5) at one theta (5,)."""
        (of_n, of_d, of_e), _ = self._shares(theta[None], np.zeros_like(self.log_n))
        return np.asarray(np.stack([of_n, of_d, of_e, -of_n * self.log_n, -of_d * self.log_d], axis=-1)[0])

    def _shares(self, theta: Array, log_loss: Array) -> tuple[tuple[Array, Array, Array], Array]:
        """The share of each term in the predicted loss, three (S, n), and ln predicted - ln observed (S, n).

        Terms are relative to the observed loss, so that the largest of them need not be found. One overflows only at
        a theta hundreds of e-folds away, and a step to such a theta is rejected because its objective is NaN.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            of_n = np.exp(theta[:, [0, 3]] @ self._line_n - log_loss)
            of_d = np.exp(theta[:, [1, 4]] @ self._line_d - log_loss)
            of_e = np.exp(theta[:, 2, None] - log_loss)
            total = of_n + of_d
            total += of_e
            residual = np.log(total)
            inverse = np.divide(1.0, total, out=total)
            of_n *= inverse
            of_d *= inverse
            of_e *= inverse
        return (of_n, of_d, of_e), residual

    def _gram(self, weights: Array, of_n: Array, of_d: Array, of_e: Array) -> Array:
        """The matrices sum_i weights_i J_i J_i^T (S, 5, 5) with J = d ln L / d theta."""
        by_n, by_d = weights * of_n, weights * of_d
        nn = (by_n * of_n) @ self._powers_n
        dd = (by_d * of_d) @ self._powers_d
        nd = (by_n * of_d) @ self._cross
        ne = (by_n * of_e) @ self._powers_n[:, :2]
        de = (by_d * of_e) @ self._powers_d[:, :2]
        ee = np.einsum("sn,sn,sn->s", weights, of_e, of_e)
        return np.concatenate([nn, dd, nd, ne, de, ee[:, None]], axis=1)[:, _GRAM]


# Position of each entry of the Gram matrix among the sums over nn (3), dd (3), nd (4), ne (2), de (2) and ee (1).
_GRAM = np.array(
    [[0, 6, 10, 1, 8], [6, 3, 12, 7, 4], [10, 12, 14, 11, 13], [1, 7, 11, 2, 9], [8, 4, 13, 9, 5]]
)


def _second_derivatives(pulls_n: Array, pulls_d: Array, pull_e: Array) -> Array:
    """The matrices sum_i pull_i sum_k share_ik x_ik x_ik^T (S, 5, 5), x_ik the derivative of the k-th log term."""
    curved = np.zeros((len(pull_e), 5, 5))
    curved[:, 0, 0], curved[:, 0, 3], curved[:, 3, 3] = pulls_n.T
    curved[:, 1, 1], curved[:, 1, 4], curved[:, 4, 4] = pulls_d.T
    curved[:, 3, 0], curved[:, 4, 1] = curved[:, 0, 3], curved[:, 1, 4]
    curved[:, 2, 2] = pull_e
    return curved
