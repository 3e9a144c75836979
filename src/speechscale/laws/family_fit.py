"""Fit of one member of the family to single-epoch runs, and draws of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from speechscale.laws.family import LOG_NO_FLOOR, MEMBERS, FamilyObjective, Member, to_theta
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array, NewtonSettings, OptimizerResult, minimise
from speechscale.laws.single_epoch import (
    AGREEMENT_TOLERANCE,
    GRADIENT_TOLERANCE,
    HUBER_EFFICIENCY,
    MIN_DELTA,
    PAPER_DELTA,
    noise_scale,
)
from speechscale.records.law_sections import Convergence

SPARE_RUNS = 2  # runs beyond the free parameters, from which the noise is estimated
START_SLOPES = np.geomspace(0.1, 1.0, 3)
START_FLOORS = (0.3, 0.7)  # E as a share of the least loss
START_GAMMAS = (1.0, 0.35)
# The first search only finds the basins; the last round descends to the optimum. A draw needs no more digits than its
# spread, and a few of them would crawl along a flat valley for ever.
SEARCH = NewtonSettings(tolerance=1e-5, max_steps=40, racing=True)
ROUGH = NewtonSettings(damping=0.1, tolerance=1e-6, max_steps=50)
DRAW = NewtonSettings(damping=0.1, tolerance=1e-4, max_steps=25)
KEPT_STARTS = 6  # best minima of the first search that later rounds descend from


@dataclass(frozen=True)
class MemberFit:
    """A fitted member: theta (7,) as in `family`, its coordinates phi (7,), and the noise of one run."""

    name: str
    theta: Array
    phi: Array
    ladder: Ladder
    objective: FamilyObjective
    noise: float  # standard deviation of ln L
    convergence: Convergence

    @property
    def member(self) -> Member:
        """The law."""
        return MEMBERS[self.name]

    @property
    def converged(self) -> bool:
        """Whether two starts or more reached the least objective, at a gradient near zero."""
        return self.convergence.agreeing >= 2 and self.convergence.gradient < GRADIENT_TOLERANCE


def fit_member(name: str, ladder: Ladder) -> MemberFit | None:
    """Fit one member, with Huber's delta from the residuals; None where the runs are too few for it.

    Args:
        name: a key of `MEMBERS`.
        ladder: single-epoch runs.
    """
    member = MEMBERS[name]
    free = sum(member.free)
    distinct = len(np.unique(np.stack([ladder.params, ladder.tokens]), axis=1).T)
    if distinct < free + SPARE_RUNS or np.ptp(ladder.loss) == 0:
        return None
    found, objective = _descend(member, ladder, PAPER_DELTA, _starts(member, ladder), SEARCH)
    for settings in (ROUGH, NewtonSettings()):
        near = found.theta[np.argsort(found.value, kind="stable")[:KEPT_STARTS]]
        noise = noise_scale(objective.log_loss(near[:1])[0] - ladder.log_loss, free)
        found, objective = _descend(member, ladder, max(HUBER_EFFICIENCY * noise, MIN_DELTA), near, settings)
    best = int(np.argmin(found.value))
    phi = found.theta[best]
    return MemberFit(
        name,
        to_theta(phi, ladder.centring),
        phi,
        ladder,
        objective,
        noise_scale(objective.log_loss(phi[None])[0] - ladder.log_loss, free),
        Convergence(
            starts=len(found.value),
            agreeing=int(np.sum(found.value <= found.value[best] * (1 + AGREEMENT_TOLERANCE) + 1e-24)),
            stalled=int(found.stalled.sum()),
            gradient=float(found.gradient[best]),
        ),
    )


def draw_member(fit: MemberFit, count: int, rng: np.random.Generator) -> Array:
    """Draw `count` laws as theta (count, 7), as other runs with the same N and D could have given them.

    Resampled residuals are added to the losses, and noise to the priors, and the law is fitted again, as in
    `bootstrap.draw_laws`.
    """
    objective, ladder = fit.objective, fit.ladder
    runs, freedom = len(ladder), len(ladder) - sum(fit.member.free)
    residual = fit.objective.log_loss(fit.phi[None])[0] - ladder.log_loss
    full = residual * np.sqrt(ladder.weights / (1 - _leverages(fit)[:runs]))
    full -= full.mean()
    full *= max(1.0, fit.noise / max(float(np.sqrt(np.mean(full**2))), 1e-300))
    scale = np.sqrt(freedom / rng.chisquare(freedom, count))[:, None]
    spread = 1 / np.sqrt(np.where(ladder.weights > 0, ladder.weights, 1.0))
    losses = ladder.log_loss + rng.choice(full, (count, runs)) * scale * spread
    noise = objective.delta / HUBER_EFFICIENCY
    priors = objective.prior_targets + noise * rng.standard_normal((count, objective.priors))
    found = minimise(
        objective,
        np.repeat(fit.phi[None], count, axis=0),
        np.concatenate([losses, priors], axis=1),
        _weights(objective, ladder),
        basis=fit.member.basis,
        settings=DRAW,
    )
    return to_theta(found.theta, ladder.centring)


def _descend(
    member: Member, ladder: Ladder, delta: float, starts: Array, settings: NewtonSettings
) -> tuple[OptimizerResult, FamilyObjective]:
    """Minima from starts (S, 7) at one delta, and the objective that they are minima of."""
    objective = FamilyObjective(ladder, delta, member)
    targets = np.concatenate([ladder.log_loss, objective.prior_targets])
    found = minimise(
        objective,
        starts,
        targets,
        _weights(objective, ladder),
        basis=member.basis,
        settings=settings,
    )
    found.value[~np.isfinite(found.value)] = np.inf
    return found, objective


def _weights(objective: FamilyObjective, ladder: Ladder) -> Array:
    return np.concatenate([ladder.weights, np.ones(objective.priors)])


def _starts(member: Member, ladder: Ladder) -> Array:
    """Starts (S, 7) on a grid of slopes, floors and gammas, with both terms equal at the mean run."""
    losses = ladder.loss
    floors = START_FLOORS if member.has_floor else (0.0,)
    gammas = START_GAMMAS if member.has_gamma else (1.0,)
    rows = []
    for slope_n, slope_d, floor, gamma in product(START_SLOPES, START_SLOPES, floors, gammas):
        least = floor * losses.min()
        level = np.log(np.median(losses) - least) - gamma * np.log(2)
        log_e = np.log(least) if floor else LOG_NO_FLOOR
        rows.append([level, level, log_e, np.log(slope_n), np.log(slope_d), np.log(gamma), 0.0])
    return np.array(rows)


def _leverages(fit: MemberFit) -> Array:
    """Diagonal of the hat matrix of runs and priors, (n + priors,) in [0, 1)."""
    jacobian = fit.objective.jacobian(fit.phi) @ fit.member.basis
    scaled = jacobian * np.sqrt(_weights(fit.objective, fit.ladder))[:, None]
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    kept = left[:, values > 1e-10 * values[0]]
    return np.asarray(np.minimum(np.sum(kept**2, axis=1), 0.99))
