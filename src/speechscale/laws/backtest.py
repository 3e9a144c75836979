"""Backtests: fit the cheaper runs of a ladder, forecast its dearer ones, and compare the forecasts with the losses.

The intervals of a law hold the noise of its runs and the disagreement of the pool, not what every member gets wrong.
What a backtest finds beyond its intervals widens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from speechscale.laws.bootstrap import NORMAL_975
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array
from speechscale.laws.pool import PooledLaw, fit_pool, widened
from speechscale.records.seeds import spawn

FACTORS = (3.0, 10.0, 30.0)  # C_max over the compute of the dearest fitted run, at least
LEVELS = (0.5, 0.8, 0.95)
MIN_CHEAPER_RUNS = 7
MIN_VALUES = 3  # distinct N, and distinct D, of the cheaper runs
BACKTEST_DRAWS = 200  # enough for the spread of a forecast
# Without a backtest: the widening that backtests found in the mean over public ladders (docs/LOG.md, 2026-11-24).
UNTESTED_SCALE = 1.5
UNTESTED_WEIGHT = 0.25  # of it beside one split
FULL_SPLIT = 5  # dearer runs from which a split counts in full
LOG_ROUNDING = 1e-9  # of ln C
Rows = np.ndarray[Any, np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class BacktestSplit:
    """One split of a ladder: the forecasts of its dearer runs by its cheaper ones.

    Attributes:
        factor: least ratio of C_max to the compute of a fitted run.
        cheaper: rows of the fitted runs.
        dearer: rows of the forecast runs, (n,).
        distance: compute of each forecast run over that of the dearest fitted run, (n,).
        members: forecasts of ln L (n,) by name of the member.
        centre: pooled forecast of ln L, (n,).
        draws: of ln L of new runs, (S, n).
    """

    factor: float
    cheaper: Rows
    dearer: Rows
    distance: Array
    members: dict[str, Array]
    centre: Array
    draws: Array

    def interval(self, level: float, scale: float = 1.0) -> tuple[Array, Array]:
        """Ends (n,) of the central interval for ln L of a new run, widened by a factor."""
        ends = np.quantile(
            widened(self.draws, self.centre, scale), [(1 - level) / 2, (1 + level) / 2], axis=0
        )
        return ends[0], ends[1]

    def deviations(self, log_loss: Array) -> Array:
        """Errors of the forecasts (n,) in standard deviations that the interval on their side promises."""
        low, high = self.interval(LEVELS[-1])
        error = log_loss[self.dearer] - self.centre
        promised = np.where(error > 0, high - self.centre, self.centre - low) / NORMAL_975
        return np.asarray(error / np.maximum(promised, 1e-12))


def is_cheaper(size: Array, largest: float, factor: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which runs have at most 1/factor of the largest size, up to rounding; (n,)."""
    return np.asarray(np.log(size) <= np.log(largest) - np.log(factor) + LOG_ROUNDING)


def split_rows(ladder: Ladder, factor: float) -> tuple[Rows, Rows] | None:
    """Rows of the runs with C <= C_max/factor and of the others; None where the cheaper are too few or too alike."""
    cheap = is_cheaper(ladder.flops, ladder.flops.max(), factor)
    cheaper, dearer = np.flatnonzero(cheap), np.flatnonzero(~cheap)
    values = min(len(np.unique(column[cheaper])) for column in (ladder.params, ladder.tokens))
    if len(cheaper) < MIN_CHEAPER_RUNS or values < MIN_VALUES or not len(dearer):
        return None
    return cheaper, dearer


def backtest(
    ladder: Ladder, seed: int, factors: tuple[float, ...] = FACTORS, draws: int = BACKTEST_DRAWS
) -> list[BacktestSplit]:
    """The splits of a ladder that its runs allow; equal splits are made once.

    Args:
        ladder: single-epoch runs.
        seed: of the draws.
        factors: of the splits, each above 1.
        draws: of the pooled law of each split.
    """
    splits: list[BacktestSplit] = []
    for factor in factors:
        rows = split_rows(ladder, factor)
        if rows is None or any(np.array_equal(rows[0], split.cheaper) for split in splits):
            continue
        cheaper, dearer = rows
        rng = np.random.default_rng(spawn(seed, f"backtest {factor:g}"))
        pool = fit_pool(ladder.take(cheaper), draws, rng)
        if pool is not None:
            splits.append(_forecast(ladder, factor, cheaper, dearer, pool, rng))
    return splits


def _forecast(
    ladder: Ladder, factor: float, cheaper: Rows, dearer: Rows, pool: PooledLaw, rng: np.random.Generator
) -> BacktestSplit:
    log_n, log_d = ladder.log_n[dearer], ladder.log_d[dearer]
    return BacktestSplit(
        factor,
        cheaper,
        dearer,
        ladder.flops[dearer] / ladder.flops[cheaper].max(),
        pool.log_member_forecasts(log_n, log_d),
        pool.log_forecast(log_n, log_d),
        pool.log_new_runs(log_n, log_d, rng),
    )


def widening(splits: list[BacktestSplit], log_loss: Array) -> float:
    """The factor by which intervals are widened: the rms deviation of the splits, 1 at least.

    Each split counts alike, because its forecasts share their errors; one of a few runs only counts for less. What is
    known before any split, UNTESTED_SCALE, counts like a quarter of one.
    """
    squares = [float(np.mean(split.deviations(log_loss) ** 2)) for split in splits]
    weights = [min(1.0, len(split.dearer) / FULL_SPLIT) for split in splits]
    mean = np.average([UNTESTED_SCALE**2, *squares], weights=[UNTESTED_WEIGHT, *weights])
    return max(1.0, float(np.sqrt(mean)))
