"""Which further runs tell most about a forecast: sequential optimal design over the draws of a law.

Under a normal approximation, a run with log loss y whose noise has variance s^2 lowers the variance of a forecast g
by Cov(g, y)^2 / (Var(y) + s^2) (c-optimality: Chaloner and Verdinelli 1995). Covariances come from the draws
themselves, so nothing is linearised by hand; after each choice they are conditioned on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.drawn import LawDraws
from speechscale.laws.minimise import Array

FARTHER = 10.0  # times the largest run's budget: the forecast that a design serves unless another is named
RATIOS = np.geomspace(1.0, 640.0, 20)  # D/N of candidate runs
SIZES = 32
BELOW = 3.0  # how many times smaller than the smallest fitted run a candidate may be
SMALLEST = 1e-6  # share of the budget that the cheapest candidate takes
LEAST_DRAWS = 100
SWAPS = 3  # rounds of exchanging each chosen run for a better one


@dataclass(frozen=True)
class Candidate:
    params: float
    tokens: float

    @property
    def flops(self) -> float:
        return allocation.FLOPS_PER_PARAM_TOKEN * self.params * self.tokens


@dataclass(frozen=True)
class Design:
    """Chosen runs in order of choice, and the standard error of the forecast ln L before and after each."""

    chosen: list[Candidate]
    forecast_flops: float
    before: float
    after: list[float]


def choose_runs(law: LawDraws, count: int, flops: float, forecast_flops: float | None = None) -> Design:
    """The `count` runs within a joint budget after which the best loss at `forecast_flops` is known best.

    Raises:
        UserError: the law has no draws or no noise, or the budget fits no run.
    """
    if law.draws < LEAST_DRAWS or not law.noise:
        raise UserError(
            f"the law of {law.name} has {law.draws} draws; {LEAST_DRAWS} and a measured noise are the least from which "
            "further runs can be chosen: fit a table of runs with --bootstrap 1000."
        )
    if count < 1 or not (np.isfinite(flops) and flops > 0):
        raise UserError(
            f"{count} runs within {flops:g} FLOPs; at least one run and a budget above zero are wanted."
        )
    if forecast_flops is not None and not (np.isfinite(forecast_flops) and forecast_flops > 0):
        raise UserError(f"a forecast at {forecast_flops:g} FLOPs; a budget above zero is wanted.")
    goal = forecast_flops or FARTHER * law.largest["flops"]
    candidates = _candidates(flops, law.smallest)
    if not candidates:
        raise UserError(
            f"{flops:g} FLOPs are too few for any run as large as a third of the smallest fitted one."
        )
    log_n, log_d = (np.log([getattr(c, name) for c in candidates]) for name in ("params", "tokens"))
    seen = law.log_loss(log_n, log_d)[1:]
    forecast = np.log(allocation.best_loss(law.theta[1:, :5], goal))
    usable = np.isfinite(forecast) & np.isfinite(seen).all(axis=1)
    table = np.column_stack([forecast, seen])[usable]
    covariance = np.cov(table, rowvar=False)
    cost = np.array([c.flops for c in candidates])
    chosen = _exchange(covariance, cost, _greedy(covariance, cost, count, flops, law.noise), flops, law.noise)
    after = [float(np.sqrt(_variance(covariance, chosen[: k + 1], law.noise))) for k in range(len(chosen))]
    return Design([candidates[k] for k in chosen], goal, float(np.sqrt(covariance[0, 0])), after)


def _candidates(flops: float, smallest: dict[str, float]) -> list[Candidate]:
    """Runs that cost between a sliver of the budget and all of it, none far below those that the law was fitted to."""
    budgets = np.geomspace(SMALLEST, 1.0, SIZES) * flops
    runs = []
    for budget in budgets:
        params = np.sqrt(budget / (allocation.FLOPS_PER_PARAM_TOKEN * RATIOS))
        runs += [Candidate(float(n), float(n * ratio)) for n, ratio in zip(params, RATIOS, strict=True)]
    least = {name: smallest.get(name, 0.0) / BELOW for name in ("params", "tokens")}
    return [run for run in runs if run.params >= least["params"] and run.tokens >= least["tokens"]]


def _variance(covariance: Array, chosen: list[int], noise: float) -> float:
    """Variance of the forecast (row 0) once the chosen runs (rows 1 + k) are known up to their noise."""
    rows = np.array(chosen) + 1
    inner = covariance[np.ix_(rows, rows)] + noise**2 * np.eye(len(rows))
    across = covariance[0, rows]
    return float(covariance[0, 0] - across @ np.linalg.solve(inner, across))


def _greedy(covariance: Array, cost: Array, count: int, flops: float, noise: float) -> list[int]:
    chosen: list[int] = []
    spent = 0.0
    for _ in range(count):
        # The last runs must not starve: each may take its even share of what is left, or less.
        share = (flops - spent) / (count - len(chosen))
        open_ = np.flatnonzero(cost <= share * (1 + 1e-9))
        if not len(open_):
            break
        left = [_variance(covariance, [*chosen, int(k)], noise) for k in open_]
        chosen.append(int(open_[int(np.argmin(left))]))
        spent += cost[chosen[-1]]
    return chosen


def _exchange(covariance: Array, cost: Array, chosen: list[int], flops: float, noise: float) -> list[int]:
    """Exchange single runs for better ones while the joint budget holds (Fedorov 1972)."""
    best = list(chosen)
    least = _variance(covariance, best, noise)
    for _ in range(SWAPS):
        for place in range(len(best)):
            others = best[:place] + best[place + 1 :]
            room = flops * (1 + 1e-9) - cost[others].sum()
            for k in np.flatnonzero(cost <= room):
                value = _variance(covariance, [*others, int(k)], noise)
                if value < least * (1 - 1e-9):
                    best[place], least = int(k), value
    return best
