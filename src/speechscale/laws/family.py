"""The family of loss laws that forecasts are pooled over, and its objective in the coordinates of the fit.

Every member is L = E + (A/N^alpha + B N^c/D^beta)^gamma with some parameters held: gamma = 1, c = 0 or E = 0.
theta (..., 7) = (ln A, ln B, ln E, alpha, beta, ln gamma, c), as in `forms`.

The fit moves in coordinates phi (..., 7) = (x, y, ln E, ln alpha', ln beta', ln gamma, c'), in which the law is
L = E + (X^(1/gamma) + Y^(1/gamma))^gamma with ln X = x - alpha' n and ln Y = y - beta' d + c' n, where n and d are
ln N and ln D less their means. alpha' = gamma alpha and beta' = gamma beta are the slopes far from the corner, so that
gamma alone says how sharp the corner is, and both exponents stay above zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.forms import Centring
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array, QuadraticModel
from speechscale.laws.single_epoch import HUBER_EFFICIENCY

# Order of theta; E and gamma enter it as logarithms.
FAMILY_NAMES = ("log_A", "log_B", "E", "alpha", "beta", "gamma", "c")
LOG_NO_FLOOR = -60.0  # ln E of the members without E: nothing beside any loss


@dataclass(frozen=True)
class Member:
    """A law of the family: its formula, and which of the seven coordinates are free."""

    formula: str
    free: tuple[bool, ...]

    @property
    def basis(self) -> Array:
        """The free directions, (7, q)."""
        return np.eye(7)[:, np.array(self.free)]

    @property
    def has_floor(self) -> bool:
        """Whether E is fitted."""
        return self.free[2]

    @property
    def has_gamma(self) -> bool:
        """Whether gamma is fitted."""
        return self.free[5]


def _member(formula: str, *, floor: bool = True, gamma: bool = False, coupling: bool = False) -> Member:
    return Member(formula, (True, True, floor, True, True, gamma, coupling))


MEMBERS: dict[str, Member] = {
    "additive": _member("E + A/N^alpha + B/D^beta"),
    "power": _member("E + (A/N^alpha + B/D^beta)^gamma", gamma=True),
    "power_without_E": _member("(A/N^alpha + B/D^beta)^gamma", floor=False, gamma=True),
    "coupled": _member("E + A/N^alpha + B N^c/D^beta", coupling=True),
}

# Weak priors on coordinates that few runs leave open: mean and standard deviation. At the mean run each term is a
# quarter of the median loss and E a half of the least loss, within factors of 4 and 2; slopes are within a factor of
# 1.6 of 0.3, gamma within one of 0.5, and c is about a tenth. Runs of ordinary number and noise outweigh them.
PRIOR = {
    0: (np.log(0.25), np.log(4.0)),
    1: (np.log(0.25), np.log(4.0)),
    2: (np.log(0.5), np.log(2.0)),
    3: (np.log(0.3), 0.5),
    4: (np.log(0.3), 0.5),
    5: (np.log(0.5), 0.5),
    6: (0.0, 0.1),
}


def to_theta(phi: Array, centre: Centring) -> Array:
    """Theta (..., 7) of coordinates phi (..., 7)."""
    x, y, log_e, slope_n, slope_d, log_gamma, coupling = np.moveaxis(np.asarray(phi, dtype=float), -1, 0)
    gamma = np.exp(log_gamma)
    alpha, beta, c = np.exp(slope_n) / gamma, np.exp(slope_d) / gamma, coupling / gamma
    log_a = x / gamma + alpha * centre.log_n
    log_b = y / gamma + beta * centre.log_d - c * centre.log_n
    return np.stack([log_a, log_b, log_e, alpha, beta, log_gamma, c], axis=-1)


class FamilyObjective:
    """The sum of w Huber_delta(ln L(N, D; phi) - ln L) over runs and over the priors of a member, for many phi at once.

    A prior is an observation of its coordinate, scaled to the noise of a run: the last `priors` entries of every row of
    targets. Randomised targets so draw from the posterior (randomise-then-optimise; Bardsley et al. 2014).
    """

    def __init__(self, ladder: Ladder, delta: float, member: Member) -> None:
        centre = ladder.centring
        self.log_n, self.log_d, self.delta = ladder.log_n - centre.log_n, ladder.log_d - centre.log_d, delta
        self.coordinates = [k for k in PRIOR if member.free[k]]
        noise = delta / HUBER_EFFICIENCY
        self.scales = np.array([noise / PRIOR[k][1] for k in self.coordinates])
        levels = {0: np.median(ladder.log_loss), 1: np.median(ladder.log_loss), 2: ladder.log_loss.min()}
        means = [PRIOR[k][0] + levels.get(k, 0.0) for k in self.coordinates]
        self.prior_targets = self.scales * np.array(means)

    @property
    def priors(self) -> int:
        """Number of coordinates with a prior."""
        return len(self.coordinates)

    def log_loss(self, phi: Array) -> Array:
        """Ln L (S, n) at phi (S, 7)."""
        return self._terms(phi).log_loss

    def jacobian(self, phi: Array) -> Array:
        """Derivatives (n + priors, 7) of the targets at one phi (7,)."""
        terms = self._terms(phi[None])
        return np.asarray(self._derivatives(terms)[1][0].T)

    def __call__(self, phi: Array, targets: Array, weights: Array, damping: Array) -> QuadraticModel:
        """The local models at S points; see `minimise.Objective`. Targets, weights: (n + priors,) or (S, the same)."""
        terms, runs = self._terms(phi), len(self.log_n)
        inner, outer = self._derivatives(terms)
        predicted = np.concatenate([terms.log_loss, phi[:, self.coordinates] * self.scales], axis=1)
        residual = predicted - targets
        clipped = np.clip(residual, -self.delta, self.delta)
        pull = weights * clipped
        trust = self.delta / np.maximum(np.abs(residual), self.delta)  # 1 inside delta, falling outside
        stiffness = weights * ((trust == 1.0) + damping[:, None] * trust)
        stiffness[:, :runs] -= pull[:, :runs]
        matrix = _gram(outer, stiffness)
        matrix += self._second_derivatives(terms, inner, outer, pull[:, :runs])
        value = np.einsum("sn,sn->s", pull, residual - 0.5 * clipped)
        return QuadraticModel(value, np.einsum("sn,spn->sp", pull, outer), matrix)

    def _terms(self, phi: Array) -> _Terms:
        x, y, log_e, slope_n, slope_d, log_gamma, coupling = (phi[:, k, None] for k in range(7))
        alpha, beta, gamma = np.exp(slope_n), np.exp(slope_d), np.exp(log_gamma)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a step that far is rejected: its objective is NaN
            of_n = x - alpha * self.log_n
            of_d = y - beta * self.log_d + coupling * self.log_n
            gap = (of_n - of_d) / gamma
            corner = np.log1p(np.exp(-np.abs(gap)))
            log_sum = np.maximum(of_n, of_d) + gamma * corner
            share_n = 1 / (1 + np.exp(-gap))
            entropy = corner + np.abs(gap) * np.where(gap > 0, 1 - share_n, share_n)
            log_loss = np.logaddexp(log_sum, log_e)
            return _Terms(
                alpha,
                beta,
                gamma,
                gap,
                share_n,
                entropy,
                np.exp(log_sum - log_loss),
                np.exp(log_e - log_loss),
                log_loss,
            )

    def _derivatives(self, terms: _Terms) -> tuple[Array, Array]:
        """Derivatives by phi of ln (L - E) (S, 7, n) and of the targets (S, 7, n + priors)."""
        of_n, of_d = terms.share_n, 1 - terms.share_n
        inner = np.zeros((len(of_n), 7, len(self.log_n)))
        inner[:, 0], inner[:, 1] = of_n, of_d
        inner[:, 3], inner[:, 4] = -of_n * terms.alpha * self.log_n, -of_d * terms.beta * self.log_d
        inner[:, 5], inner[:, 6] = terms.gamma * terms.entropy, of_d * self.log_n
        outer = np.zeros((len(of_n), 7, len(self.log_n) + self.priors))
        outer[:, :, : len(self.log_n)] = inner * terms.reducible[:, None]
        outer[:, 2, : len(self.log_n)] = terms.floor
        outer[:, self.coordinates, len(self.log_n) + np.arange(self.priors)] = self.scales
        return inner, outer

    def _second_derivatives(self, terms: _Terms, inner: Array, outer: Array, pull: Array) -> Array:
        """The matrices sum_i pull_i (d2 ln L_i + J_i J_i^T) (S, 7, 7); the objective takes J J^T off again."""
        runs = len(self.log_n)
        reducible = pull * terms.reducible
        across = np.zeros_like(inner)  # derivatives of (ln X - ln Y) at a fixed gap
        across[:, 0], across[:, 1] = 1, -1
        across[:, 3], across[:, 4] = -terms.alpha * self.log_n, terms.beta * self.log_d
        across[:, 5], across[:, 6] = -terms.gamma * terms.gap, -self.log_n
        mixing = terms.share_n * (1 - terms.share_n) / terms.gamma
        curved = _gram(inner, reducible) + _gram(across, np.nan_to_num(reducible * mixing))
        curved[:, 2, 2] += np.einsum("sn,sn->s", pull, terms.floor)
        curved[:, 5, 5] += np.einsum("sn,sn->s", reducible, terms.gamma * terms.entropy)
        for k in (3, 4):  # both exponents enter as logarithms
            curved[:, k, k] += np.einsum("sn,sn->s", pull, outer[:, k, :runs])
        return curved


@dataclass(frozen=True)
class _Terms:
    """The parts of a law at S points and n runs, (S, n); alpha, beta and gamma (S, 1)."""

    alpha: Array
    beta: Array
    gamma: Array
    gap: Array  # (ln X - ln Y) / gamma
    share_n: Array  # of X^(1/gamma) in the sum
    entropy: Array  # of the two shares
    reducible: Array  # share of the loss above E
    floor: Array  # share of E in the loss
    log_loss: Array


def _gram(columns: Array, weights: Array) -> Array:
    """The matrices sum_i weights_i column_i column_i^T (S, p, p) of columns (S, p, n)."""
    return np.asarray((columns * weights[:, None]) @ np.swapaxes(columns, 1, 2))
