"""Choice of further runs that reduce the error of a forecast most: sequential optimal design over draws of a law.

Under a normal approximation, a run with log loss y whose noise has variance s^2 lowers the variance of a forecast g
by Cov(g, y)^2 / (Var(y) + s^2) (c-optimality: Chaloner and Verdinelli 1995). The covariances are those of the draws,
so nothing is linearised; after each choice they are conditioned on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.allocation import FORECAST_FACTOR
from speechscale.laws.bootstrap import MIN_DRAWS
from speechscale.laws.draws import LawDraws
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN, training_flops

RATIOS = np.geomspace(1.0, 640.0, 20)  # D/N of candidate runs
CANDIDATE_BUDGETS = 32
MIN_SIZE_FACTOR = 3.0  # how many times smaller than the smallest fitted run a candidate may be
MIN_COST_SHARE = 1e-6  # of the budget, for the cheapest candidate
EXCHANGE_ROUNDS = 3  # of replacing each chosen run by a better one
ROUNDING = 1e-9
MIN_NOISE = 1e-6  # of ln L: with runs of an exact law, less leaves equations that cannot be solved


@dataclass(frozen=True)
class CandidateRun:
    """A run that could be made: N parameters and D tokens."""

    params: float
    tokens: float

    @property
    def flops(self) -> float:
        """6 N D."""
        return training_flops(self.params, self.tokens)


@dataclass(frozen=True)
class RunDesign:
    """Chosen runs in order of choice, and the standard error of the forecast ln L before and after each."""

    chosen: list[CandidateRun]
    forecast_flops: float
    before: float
    after: list[float]


def choose_runs(law: LawDraws, count: int, flops: float, forecast_flops: float | None = None) -> RunDesign:
    """Choose the runs within a joint budget that leave the least error of a forecast of the best loss.

    Args:
        law: the law with draws.
        count: how many runs.
        flops: their joint budget.
        forecast_flops: budget of the forecast; FORECAST_FACTOR times the largest fitted run when None.

    Raises:
        UserError: the law has no draws or no noise, or the budget fits no run.
    """
    if law.draws < MIN_DRAWS or law.noise is None or not law.centre(law.noise) > 0:
        raise UserError(
            f"the law of {law.name} has {law.draws} draws; {MIN_DRAWS} and a measured noise are the least from which "
            "further runs can be chosen: fit a table of runs with --bootstrap 1000."
        )
    if count < 1 or not (np.isfinite(flops) and flops > 0):
        raise UserError(
            f"{count} runs within {flops:g} FLOPs; at least one run and a budget above zero are wanted."
        )
    if forecast_flops is not None and not (np.isfinite(forecast_flops) and forecast_flops > 0):
        raise UserError(f"a forecast at {forecast_flops:g} FLOPs; a budget above zero is wanted.")
    goal = forecast_flops or FORECAST_FACTOR * law.largest["flops"]
    candidates = _candidates(flops, law.smallest)
    if not candidates:
        raise UserError(
            f"{flops:g} FLOPs are too few for any run as large as a third of the smallest fitted one."
        )
    log_n, log_d = (np.log([getattr(c, name) for c in candidates]) for name in ("params", "tokens"))
    noise = max(float(law.centre(law.noise)), MIN_NOISE)
    observed = law.log_loss(log_n, log_d)[law.points :]
    forecast = np.log(allocation.best_loss(law.theta[law.points :, :7], goal))
    usable = np.isfinite(forecast) & np.isfinite(observed).all(axis=1)
    covariance = np.cov(np.column_stack([forecast, observed])[usable], rowvar=False)
    cost = np.array([c.flops for c in candidates])
    greedy = _greedy(covariance, cost, count, flops, noise)
    chosen = _exchange(covariance, cost, greedy, flops, noise)
    after = [float(np.sqrt(_variance(covariance, chosen[: k + 1], noise))) for k in range(len(chosen))]
    return RunDesign([candidates[k] for k in chosen], goal, float(np.sqrt(covariance[0, 0])), after)


def _candidates(flops: float, smallest: dict[str, float]) -> list[CandidateRun]:
    """Runs that cost at most the budget, none far smaller than the fitted ones."""
    runs = []
    for budget in np.geomspace(MIN_COST_SHARE, 1.0, CANDIDATE_BUDGETS) * flops:
        params = np.sqrt(budget / (FLOPS_PER_PARAM_TOKEN * RATIOS))
        runs += [CandidateRun(float(n), float(n * ratio)) for n, ratio in zip(params, RATIOS, strict=True)]
    least = {name: smallest.get(name, 0.0) / MIN_SIZE_FACTOR for name in ("params", "tokens")}
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
        # Each run may take its even share of the rest of the budget, so that something is left for the last ones.
        share = (flops - spent) / (count - len(chosen))
        affordable = np.flatnonzero(cost <= share * (1 + ROUNDING))
        if not len(affordable):
            break
        left = [_variance(covariance, [*chosen, int(k)], noise) for k in affordable]
        chosen.append(int(affordable[int(np.argmin(left))]))
        spent += cost[chosen[-1]]
    return chosen


def _exchange(covariance: Array, cost: Array, chosen: list[int], flops: float, noise: float) -> list[int]:
    """Exchange single runs for better ones while the joint budget allows it (Fedorov 1972)."""
    best = list(chosen)
    least = _variance(covariance, best, noise)
    for _ in range(EXCHANGE_ROUNDS):
        for position in range(len(best)):
            others = best[:position] + best[position + 1 :]
            affordable = flops * (1 + ROUNDING) - cost[others].sum()
            for k in np.flatnonzero(cost <= affordable):
                value = _variance(covariance, [*others, int(k)], noise)
                if value < least * (1 - ROUNDING):
                    best[position], least = int(k), value
    return best
