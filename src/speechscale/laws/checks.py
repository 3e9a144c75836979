"""Checks of the runs and of the fitted law, each reported in one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import JsonValue

from speechscale.laws import allocation
from speechscale.laws.allocation import FORECAST_FACTOR
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import log_loss
from speechscale.laws.influence import log_forecast
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import MIN_EXPONENT, VANISHED_SHARE, SingleEpochFit
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN, training_flops
from speechscale.records.forecast_sections import ForecastLaw
from speechscale.records.law_sections import Check, Missing
from speechscale.records.runs_table import RECIPE_COLUMNS

FEW_RUNS = 15
MAX_CORRELATION = 0.95  # of ln N and ln D, beyond which their terms are not separated
DECADE = 10.0
MAX_WARMUP_SHARE = 0.1  # of the steps of a run
FLAT_EXCESS = 1e-3  # relative excess over the best loss that spans the flat optimum
MAX_INTERVAL_RATIO = 4.0  # upper over lower end of an exponent's interval, beyond which it is not determined
MAX_INFLUENCE = 2.0  # standard errors by which one run may move the forecast
POOR_COVERAGE = 0.8  # of 95 % intervals in a backtest, below which a law forecasts its own runs badly
MAX_FLOPS_DEVIATION = 1.05  # factor between the flops column and 6 N D


def check_table(done: pl.DataFrame, unused: Sequence[str] = ()) -> list[Check]:
    """Checks of the completed runs of one series, before any fit.

    Args:
        done: the runs.
        unused: numeric columns that are not known to be scores.
    """
    found = [
        _unused_columns(unused),
        _embedding_counts(done),
        _warmup(done),
        *_mixed_recipes(done),
        _flops_convention(done),
    ]
    return [check for check in found if check]


def check_law(law: FittedLaw, runs: list[str]) -> list[Check]:
    """Checks of the single-epoch law and of the runs that it was fitted to.

    Args:
        law: the fit, its draws and the influence of each run.
        runs: names of the fitted runs, in their order.
    """
    fit = law.fit
    found = [
        _few_runs(fit),
        _collinear(fit),
        *_narrow_ranges(fit),
        _delta_below_resolution(fit),
        _not_converged(fit),
        _vanished(fit),
        *_at_bound(fit),
        *_not_identified(law.draws),
        _influential_run(law, runs),
        _flat_optimum(fit),
        _ratio_outside_runs(fit),
    ]
    return [check for check in found if check]


def forecast_checks(law: ForecastLaw | Missing | None) -> list[Check]:
    """What a reader of a forecast must know about the backtest of the pooled law."""
    if law is None or isinstance(law, Missing):
        return []
    found = [
        _check(
            "member left out",
            f"forecasts do without {member.formula} ({name}): {member.left_out}",
            "note",
        )
        for name, member in law.members.items()
        if member.left_out
    ]
    if isinstance(law.backtest, Missing):
        return [*found, _check("not backtested", law.backtest.missing, "note")]
    inside = min(split.pool.inside95 or 0.0 for split in law.backtest.splits)
    if inside < POOR_COVERAGE or law.scale > 1:
        message = (
            f"{law.backtest.message}; so the intervals of forecasts are {law.scale:.2f} times as wide as the draws "
            "alone"
        )
        level: Literal["warning", "note"] = "warning" if inside < POOR_COVERAGE else "note"
        found.append(_check("backtest", message, level, scale=law.scale, least_inside95=inside))
    return found


def _unused_columns(names: Sequence[str]) -> Check | None:
    if not names:
        return None
    listed = ", ".join(names)
    return _check(
        "unused columns",
        f"nothing is fitted to {listed}: not known to be scores. A score has a column <score>_items or <score>_chance, "
        f"or is named, as in --scores {names[0]}.",
        "note",
    )


def _check(
    check: str, message: str, level: Literal["warning", "note"] = "warning", **values: JsonValue
) -> Check:
    return Check.model_validate({"check": check, "level": level, "message": message, **values})


def _few_runs(fit: SingleEpochFit) -> Check | None:
    count = len(fit.ladder)
    if count >= FEW_RUNS:
        return None
    return _check(
        "few runs",
        f"{count} runs carry {fit.constraint.free} free parameters; intervals from fewer than {FEW_RUNS} runs are wide "
        "and rough: add sizes and budgets, or fix or tie parameters.",
        runs=count,
    )


def _collinear(fit: SingleEpochFit) -> Check | None:
    spreads = np.ptp(fit.ladder.log_n), np.ptp(fit.ladder.log_d)
    if min(spreads) == 0:
        which = "N" if spreads[0] == 0 else "D"
        return _check(
            "one value", f"all runs have the same {which}: its term cannot be separated from E.", value=which
        )
    correlation = float(np.corrcoef(fit.ladder.log_n, fit.ladder.log_d)[0, 1])
    if abs(correlation) < MAX_CORRELATION:
        return None
    return _check(
        "collinear",
        f"ln N and ln D are correlated at {correlation:.3f}: the runs follow one line, so the terms of N and of D "
        "cannot be separated; add runs of other D/N.",
        correlation=correlation,
    )


def _narrow_ranges(fit: SingleEpochFit) -> list[Check]:
    found = []
    for name, values in (("N", fit.ladder.params), ("D", fit.ladder.tokens)):
        ratio = float(values.max() / values.min())
        if 1 < ratio < DECADE:
            found.append(
                _check(
                    "narrow range",
                    f"{name} spans a factor of {ratio:.3g}, less than a decade: its exponent is poorly determined.",
                    quantity=name,
                    ratio=ratio,
                )
            )
    return found


def resolution(losses: Array) -> float:
    """Half the last decimal place of the losses (n,), relative to their median; 0 at full precision."""
    for places in range(8):
        if np.all(np.abs(np.round(losses, places) - losses) < 1e-12 * losses):
            return float(0.5 * 10.0**-places / np.median(losses))
    return 0.0


def _delta_below_resolution(fit: SingleEpochFit) -> Check | None:
    step = resolution(fit.ladder.loss)
    if fit.delta >= step:
        return None
    return _check(
        "delta below resolution",
        f"delta {fit.delta:.2g} is below the resolution of the losses ({step:.2g} of a loss): the optimum is a kink "
        "between rounded values; give losses with more decimals or a larger --delta.",
        delta=fit.delta,
        resolution=step,
    )


def _not_converged(fit: SingleEpochFit) -> Check | None:
    if fit.converged:
        return None
    return _check(
        "not converged",
        f"{fit.convergence.agreeing} of {fit.convergence.starts} starts agree on the optimum and its scaled gradient "
        f"is {fit.convergence.gradient:.1e}: this fit is no result; look at the runs for outliers and collinearity.",
    )


def _vanished(fit: SingleEpochFit) -> Check | None:
    theta, ladder = fit.theta, fit.ladder
    log_terms = {
        "A/N^alpha": theta[0] - theta[3] * ladder.log_n,
        "B/D^beta": theta[1] - theta[4] * ladder.log_d,
        "E": np.full(len(ladder), theta[2]),
    }
    total = log_loss(theta, ladder.log_n, ladder.log_d)
    vanished = [name for name, term in log_terms.items() if np.exp(term - total).max() < VANISHED_SHARE]
    if not vanished:
        return None
    return _check("vanished", f"{', '.join(vanished)} vanished in the fit: these runs do not identify it.")


def _at_bound(fit: SingleEpochFit) -> list[Check]:
    """Exponents held at their least value, because without a bound loss would rise with N or with D."""
    return [
        _check(
            "exponent at bound",
            f"{name} is held at {MIN_EXPONENT:g}, its least value: in these runs loss does not fall with {quantity}, "
            "so neither it nor the best split is a result.",
        )
        for name, quantity, k in (("alpha", "N", 3), ("beta", "D", 4))
        if fit.theta[k] <= MIN_EXPONENT
    ]


def _not_identified(draws: Array) -> list[Check]:
    found = []
    for name, k in (("alpha", 3), ("beta", 4)):
        interval = percentile_interval(draws[:, k])
        if interval is not None and interval[0] > 0 and interval[1] <= MAX_INTERVAL_RATIO * interval[0]:
            continue
        extent = "cannot be closed" if interval is None else "reaches from {:.3g} to {:.3g}".format(*interval)
        found.append(
            _check(
                "not identified",
                f"the interval of {name} {extent}: these runs do not determine it; read neither it nor "
                "the best split as a result.",
                parameter=name,
            )
        )
    return found


def _influential_run(law: FittedLaw, runs: list[str]) -> Check | None:
    change = np.abs(law.influence)
    error = float(np.nanstd(log_forecast(law.fit, law.draws)))
    at = int(np.argmax(change))
    if change[at] <= MAX_INFLUENCE * error or change[at] < 1e-6:
        return None
    return _check(
        "influential run",
        f"without run {runs[at]!r} the loss forecast at {FORECAST_FACTOR:g} times the compute moves by "
        f"{change[at]:.2%}, {change[at] / error:.1f} times its standard error: look at that run.",
        run=runs[at],
        moved=float(change[at]),
    )


def _flat_optimum(fit: SingleEpochFit) -> Check | None:
    budget = float(fit.ladder.flops.max())
    flat = flat_range(fit.theta, budget)
    if flat is None:
        return None
    return _check(
        "flat optimum",
        f"at {budget:.2g} FLOPs, any N from {flat[0]:.3g} to {flat[1]:.3g} costs at most {FLAT_EXCESS:.1%} of loss.",
        level="note",
        flops=budget,
        params=[*flat],
    )


def flat_range(theta: Array, flops: float, excess: float = FLAT_EXCESS) -> tuple[float, float] | None:
    """Smallest and largest N at which a budget's loss is near the best one; None where no split is best.

    Args:
        theta: (5,).
        flops: the budget.
        excess: relative to the best loss of the budget.
    """
    log_n, _ = allocation.log_optimum(theta, flops)
    if not np.isfinite(log_n):
        return None
    grid = log_n + np.linspace(-12, 12, 4801)
    log_d = np.log(flops / FLOPS_PER_PARAM_TOKEN) - grid
    flat = grid[log_loss(theta, grid, log_d) <= np.log(allocation.best_loss(theta, flops)) + np.log1p(excess)]
    return float(np.exp(flat.min())), float(np.exp(flat.max()))


def _ratio_outside_runs(fit: SingleEpochFit) -> Check | None:
    ladder = fit.ladder
    log_n, log_d = allocation.log_optimum(fit.theta, float(ladder.flops.max()))
    if not np.isfinite(log_n):
        return None
    best = float(np.exp(log_d - log_n))
    ratios = ladder.tokens / ladder.params
    if ratios.min() <= best <= ratios.max():
        return None
    return _check(
        "best D/N outside",
        f"the best D/N at the largest compute is {best:.3g}, outside the {ratios.min():.3g} to {ratios.max():.3g} of "
        "the runs: the allocation is an extrapolation.",
        best=best,
        trained=[float(ratios.min()), float(ratios.max())],
    )


def _embedding_counts(done: pl.DataFrame) -> Check | None:
    if "params_total" not in done.columns:
        return None
    excess = done["params_total"] - done["params"]
    if (excess < 0).any():
        run = done["run"][int((excess < 0).arg_true()[0])]
        return _check(
            "embedding counts", f"run {run!r} has more non-embedding than total parameters.", run=run
        )
    if (excess == 0).any() and (excess > 0).any():
        return _check(
            "embedding counts",
            "some runs count the same with and without embeddings and others do not: N seems to mix both counts.",
        )
    return None


def _warmup(done: pl.DataFrame) -> Check | None:
    if not {"steps", "warmup_steps"} <= set(done.columns):
        return None
    long = done.filter(pl.col("warmup_steps") > MAX_WARMUP_SHARE * pl.col("steps"))
    if not long.height:
        return None
    return _check(
        "warm-up",
        f"{long.height} runs spend more than {MAX_WARMUP_SHARE:.0%} of their steps in warm-up (the first: "
        f"{long['run'][0]!r}): their losses are those of another recipe.",
        runs=long["run"].to_list(),
    )


def _mixed_recipes(done: pl.DataFrame) -> list[Check]:
    """Runs of several presets or schedules, whose losses differ by more than size and data."""
    found = []
    for name in RECIPE_COLUMNS:
        if name in done.columns and done[name].n_unique() > 1:
            counts = (
                done[name]
                .fill_null("not recorded")
                .value_counts()
                .sort("count", name, descending=True)
                .rows()
            )
            listing = ", ".join(f"{count} of {name} {value!r}" for value, count in counts)
            found.append(
                _check(
                    f"mixed {name}s",
                    f"one law is fitted to {listing}: part of it is the difference between them; fit them as series of "
                    "their own.",
                    counts=dict(counts),
                )
            )
    return found


def _flops_convention(done: pl.DataFrame) -> Check | None:
    ratio = (done["flops"] / training_flops(done["params"], done["tokens"])).to_numpy()
    if not len(ratio) or np.abs(np.log(ratio)).max() < np.log(MAX_FLOPS_DEVIATION):
        return None
    return _check(
        "flops convention",
        f"the flops column is {ratio.min():.3g} to {ratio.max():.3g} times 6 N D; the envelope and the scores use the "
        "column, the best split uses 6 N D.",
        level="note",
    )
