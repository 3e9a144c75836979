"""The pool of the two fits to repeated data, in two stages and jointly, and its backtests.

The two miss in opposite directions more often than not: the first keeps the single-epoch law, which few runs leave
open; the second bends it towards the runs of many epochs. So their forecasts are averaged in equal parts (Bates and
Granger 1969; equal weights beat estimated ones where errors are estimated from few forecasts: Smith and Wallis 2009).
Theta (..., 9) = (ln A, ln B, ln E, alpha, beta, ln gamma, c, ln R_D*, ln R_N*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from speechscale.laws.backtest import MIN_CHEAPER_RUNS, MIN_VALUES, BacktestSplit, Rows, is_cheaper
from speechscale.laws.bootstrap import draw_laws
from speechscale.laws.family_fit import SPARE_RUNS
from speechscale.laws.ladder import Ladder, ParameterConstraint
from speechscale.laws.minimise import Array
from speechscale.laws.pool import fit_pool
from speechscale.laws.repeated import (
    RATES,
    RepeatedFit,
    clipped_rates,
    draw_joint,
    draw_rates,
    fit_repeated,
    log_loss_repeated,
)
from speechscale.laws.single_epoch import SingleEpochFit, fit_single_epoch, noise_scale
from speechscale.records.law import FitOptions
from speechscale.records.runs_table import SINGLE_EPOCH_TOLERANCE
from speechscale.records.seeds import spawn

Part = Literal["two_stages", "joint"]
SplitBy = Literal["compute", "unique_tokens"]
TWO_STAGES: Part = "two_stages"
JOINT: Part = "joint"
PARTS: tuple[Part, ...] = (TWO_STAGES, JOINT)
SPLITS: tuple[SplitBy, ...] = ("compute", "unique_tokens")
FACTORS = (3.0, 10.0)  # of the splits, by compute and by unique tokens
MIN_REPEATED_RUNS = 3  # of several epochs, to fit the rates or to judge a forecast
DRAWS = 100  # of each part of a backtest
CLEARLY_WORSE = 3.0  # ratio of backtest errors from which the worse of the two fits is left out
# Single-epoch runs below which the fit in two stages is never the only one; the check "few runs" warns there too.
FEW_SINGLE_EPOCH_RUNS = 15


@dataclass(frozen=True)
class RepeatedRuns:
    """Completed runs of one series, of one epoch and of several: a ladder of n runs and their unique tokens (n,)."""

    ladder: Ladder
    unique: Array

    @property
    def repeated(self) -> np.ndarray:
        """Which runs are of several epochs, (n,) bool."""
        return np.asarray(self.ladder.tokens > self.unique * SINGLE_EPOCH_TOLERANCE)

    def take(self, rows: np.ndarray) -> RepeatedRuns:
        """Some of the runs."""
        return RepeatedRuns(self.ladder.take(rows), self.unique[rows])

    @property
    def several_epochs(self) -> RepeatedRuns:
        """The runs of several epochs."""
        return self.take(np.flatnonzero(self.repeated))

    @property
    def one_epoch(self) -> RepeatedRuns:
        """The runs of one epoch."""
        return self.take(np.flatnonzero(~self.repeated))

    def log_loss(self, theta: Array) -> Array:
        """Ln L (S, n) by the laws theta (S, 7) or (S, 9)."""
        ladder = self.ladder
        return log_loss_repeated(theta, ladder.log_n, ladder.log_d, np.log(self.unique))


@dataclass(frozen=True)
class PartDraws:
    """One part of the pool: M fitted laws (M, 9), whose median is its forecast, and draws (S, 9)."""

    points: Array
    draws: Array

    def log_forecast(self, runs: RepeatedRuns) -> Array:
        """Ln L (n,)."""
        return np.asarray(np.median(runs.log_loss(self.points), axis=0))

    def log_new_runs(self, runs: RepeatedRuns, noise: float, rng: np.random.Generator) -> Array:
        """Draws of ln L (S, n) of new runs, each with the noise of one run."""
        drawn = runs.log_loss(self.draws)
        return np.asarray(drawn + noise * rng.standard_normal(drawn.shape))


@dataclass(frozen=True)
class RepeatedSplit:
    """Forecasts of the multi-epoch runs that one split leaves out.

    Attributes:
        by: the quantity by which the runs are split.
        factor: least ratio of its largest value to that of a fitted run.
        fitted: rows of the fitted runs.
        forecast: rows of the forecast runs, (n,).
        distance: ratio of the quantity of each forecast run to the largest of a fitted run, (n,).
        centres: ln L (n,) by part.
        draws: ln L of new runs, (S, n) by part.
    """

    by: SplitBy
    factor: float
    fitted: Rows
    forecast: Rows
    distance: Array
    centres: dict[Part, Array]
    draws: dict[Part, Array]

    def pooled(self, parts: Sequence[Part]) -> BacktestSplit:
        """The forecasts of some parts in equal shares."""
        return BacktestSplit(
            self.factor,
            self.fitted,
            self.forecast,
            self.distance,
            {str(name): centre for name, centre in self.centres.items()},
            np.mean([self.centres[name] for name in parts], axis=0),
            np.concatenate([self.draws[name] for name in parts]),
        )


def split_rows(runs: RepeatedRuns, by: SplitBy, factor: float) -> tuple[Rows, Rows] | None:
    """Rows of the runs to fit, and of the multi-epoch runs to forecast; None where either are too few or too alike.

    Fitted are the runs with at most 1/factor of the largest compute, or of the most unique tokens, of a multi-epoch
    run; forecast are the other multi-epoch runs.
    """
    repeated = runs.repeated
    if not repeated.any():
        return None
    size = _size(runs, by)
    small = is_cheaper(size, size[repeated].max(), factor)
    fitted, forecast = np.flatnonzero(small), np.flatnonzero(~small & repeated)
    single = runs.ladder.take(np.flatnonzero(small & ~repeated))
    values = min(len(np.unique(column)) for column in (single.params, single.tokens))
    enough = min(int(np.sum(small & repeated)), len(forecast)) >= MIN_REPEATED_RUNS
    if not enough or len(single) < MIN_CHEAPER_RUNS or values < MIN_VALUES:
        return None
    return fitted, forecast


def backtest_repeated(runs: RepeatedRuns, options: FitOptions) -> list[RepeatedSplit]:
    """Every split that the runs allow; equal splits are made once."""
    found: list[RepeatedSplit] = []
    for by in SPLITS:
        for factor in FACTORS:
            rows = split_rows(runs, by, factor)
            if rows is None or any(np.array_equal(rows[0], split.fitted) for split in found):
                continue
            fitted, forecast = rows
            size = _size(runs, by)
            rng = np.random.default_rng(spawn(options.seed, f"repeated {by} {factor:g}"))
            parts, noise = _fit_parts(runs.take(fitted), options, rng)
            wanted = runs.take(forecast)
            found.append(
                RepeatedSplit(
                    by,
                    factor,
                    fitted,
                    forecast,
                    size[forecast] / size[fitted].max(),
                    {name: part.log_forecast(wanted) for name, part in parts.items()},
                    {name: part.log_new_runs(wanted, noise, rng) for name, part in parts.items()},
                )
            )
    return found


def part_errors(splits: Sequence[RepeatedSplit], log_loss: Array) -> dict[Part, float]:
    """Root mean square error of ln L by part: every split counts alike."""
    return {
        part: float(
            np.sqrt(
                np.mean([np.mean((split.centres[part] - log_loss[split.forecast]) ** 2) for split in splits])
            )
        )
        for part in PARTS
    }


def pooled_parts(errors: Mapping[Part, float] | None, single_epoch_runs: int, free: int) -> tuple[Part, ...]:
    """The parts that are pooled, in equal shares.

    Both are, with two exceptions. The joint fit is alone where fewer single-epoch runs than two beyond the free
    parameters leave nothing to judge a law by. One part is alone where the error of the other in the backtest is
    CLEARLY_WORSE times its own; but the fit in two stages never with fewer than FEW_SINGLE_EPOCH_RUNS.

    Args:
        errors: of the backtest by part; None where the runs allow none.
        single_epoch_runs: number of them.
        free: free parameters of the single-epoch law.
    """
    if single_epoch_runs < free + SPARE_RUNS:
        return (JOINT,)
    if errors is None:
        return PARTS
    if errors[TWO_STAGES] >= CLEARLY_WORSE * errors[JOINT]:
        return (JOINT,)
    if errors[JOINT] >= CLEARLY_WORSE * errors[TWO_STAGES] and single_epoch_runs >= FEW_SINGLE_EPOCH_RUNS:
        return (TWO_STAGES,)
    return PARTS


def run_noise(joint: RepeatedFit, runs: RepeatedRuns) -> float:
    """Standard deviation of ln L of one multi-epoch run around the joint fit, by `noise_scale`."""
    several = runs.several_epochs
    residual = several.log_loss(joint.theta[None])[0] - several.ladder.log_loss
    return noise_scale(residual, len(RATES))


def family_rows(laws: Array, log_rates: Array) -> Array:
    """Theta (S, 9) of laws (S, 5) or (S, 7) with rates ln R* (S, 2) within the profiled range."""
    shape = np.zeros((len(laws), 7 - laws.shape[1]))  # ln gamma = 0 and c = 0: the additive law
    return np.column_stack([laws, shape, np.log(clipped_rates(log_rates))])


def two_stage_rows(points: Array, draws: Array, log_rates: Array, drawn_rates: Array) -> PartDraws:
    """The part in two stages: single-epoch laws with the rates of the second stage.

    The rates are drawn under the additive law; the draws of a pool of laws take them in turn.

    Args:
        points: fitted laws, (M, 5) or (M, 7).
        draws: of them, (S, the same).
        log_rates: fitted ln R*, (2,).
        drawn_rates: draws of ln R*, (T, 2).
    """
    return PartDraws(
        family_rows(points, np.repeat(log_rates[None], len(points), axis=0)),
        family_rows(draws, drawn_rates[np.arange(len(draws)) % len(drawn_rates)]),
    )


def _fit_parts(
    runs: RepeatedRuns, options: FitOptions, rng: np.random.Generator
) -> tuple[dict[Part, PartDraws], float]:
    """Both parts fitted to runs, and the noise of a multi-epoch run."""
    single, several = runs.one_epoch, runs.several_epochs
    first = fit_single_epoch(
        single.ladder.params,
        single.ladder.tokens,
        single.ladder.loss,
        weights=single.ladder.weights,
        delta=options.delta,
        constraint=ParameterConstraint.of(options.tied, options.fixed),
    )
    second = fit_repeated(first, several.ladder, several.unique, profiled=False)
    joint = fit_repeated(first, runs.ladder, runs.unique, joint=True, profiled=False)
    laws = draw_laws(first, DRAWS, int(rng.integers(2**31)), options.resampling)
    rates = draw_rates(second, laws, several.ladder, several.unique, rng)
    joint_draws = draw_joint(joint, runs.ladder, runs.unique, DRAWS, rng)
    parts = {
        TWO_STAGES: _two_stages(first, second, single.ladder, laws, rates, options, rng),
        JOINT: PartDraws(
            family_rows(joint.theta[None, :5], joint.theta[None, 5:]),
            family_rows(joint_draws[:, :5], joint_draws[:, 5:]),
        ),
    }
    return parts, run_noise(joint, runs)


def _two_stages(
    first: SingleEpochFit,
    second: RepeatedFit,
    ladder: Ladder,
    laws: Array,
    rates: Array,
    options: FitOptions,
    rng: np.random.Generator,
) -> PartDraws:
    """The rates of the second stage with the pooled single-epoch laws of the first, or with the additive law alone."""
    pooled = options.law == "pooled" and not options.tied and not options.fixed
    pool = fit_pool(ladder, DRAWS, rng) if pooled else None
    points, draws = (first.theta[None], laws) if pool is None else (pool.points, np.concatenate(pool.draws))
    return two_stage_rows(points, draws, second.theta[5:], rates)


def _size(runs: RepeatedRuns, by: SplitBy) -> Array:
    """The quantity (n,) by which runs are split."""
    return runs.ladder.flops if by == "compute" else runs.unique
