"""The forecast section of a law file: the pooled family, its backtests, and the widening of its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws.backtest import LEVELS, BacktestSplit, backtest, widening
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.family import FAMILY_NAMES, LOG_NO_FLOOR
from speechscale.laws.family_fit import MemberFit
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array
from speechscale.laws.options import chosen_series
from speechscale.laws.pool import fit_pool
from speechscale.laws.sections import to_ladder
from speechscale.records.forecast_sections import (
    Backtest,
    BacktestedRuns,
    BacktestSplitResult,
    FamilyParams,
    ForecastErrors,
    ForecastLaw,
    MemberLaw,
)
from speechscale.records.law import FitOptions, rounded
from speechscale.records.law_sections import Interval, Missing
from speechscale.records.runs_table import is_single_epoch
from speechscale.records.seeds import spawn, spawn_seed

LOGARITHMS = [FAMILY_NAMES.index(name) for name in ("E", "gamma")]
NOT_BACKTESTED = (
    "not backtested: no split leaves 7 cheaper runs or more of 3 sizes and 3 token counts, and a dearer run"
)


def forecast(ladder: Ladder, runs: list[str], options: FitOptions) -> ForecastLaw | Missing:
    """The pooled family fitted to single-epoch runs.

    Args:
        ladder: the runs.
        runs: their names.
        options: of the fit.
    """
    if options.tied or options.fixed:
        return Missing(missing="parameters are tied or fixed, so forecasts come from the additive law alone")
    counted = np.flatnonzero(ladder.weights > 0)
    ladder, runs = ladder.take(counted), [runs[row] for row in counted]
    rng = np.random.default_rng(spawn(options.seed, "pool"))
    pool = fit_pool(ladder, options.bootstrap, rng)
    if pool is None:
        return Missing(
            missing=f"no law of the family has enough runs among {len(ladder)}, or converged on them"
        )
    splits = backtest(ladder, spawn_seed(options.seed, "backtest"))
    return ForecastLaw(
        members={
            fit.name: _member(fit, draws, weight=1 / len(pool.fits))
            for fit, draws in zip(pool.fits, pool.draws, strict=True)
        }
        | {
            fit.name: _member(fit, np.empty((0, len(FAMILY_NAMES))), weight=0.0, left_out=why)
            for fit, why in pool.left_out
        },
        scale=widening(splits, ladder.log_loss),
        backtest=_backtest([split_result(split, ladder, runs, 1.0) for split in splits]),
    )


def backtest_table(
    table: pl.DataFrame, factors: tuple[float, ...], series: Sequence[str] | None, seed: int
) -> dict[str, Backtest | Missing]:
    """Backtest every series of a canonical table.

    The intervals of a split are widened by what backtests within its cheaper runs find.

    Args:
        table: runs, as `records.runs_table.read_table` gives them.
        factors: of the splits, each above 1.
        series: which series; all when None.
        seed: of the draws.

    Raises:
        UserError: a factor that is not above 1, or an unknown series.
    """
    for factor in factors:
        if not (np.isfinite(factor) and factor > 1):
            raise UserError(f"a split of {factor:g}; a factor above 1 is wanted, as in --split 10.")
    done = table.filter((pl.col("status") == "done") & is_single_epoch())
    found: dict[str, Backtest | Missing] = {}
    for name in chosen_series(series, tuple(dict.fromkeys(table["series"]))):
        own = done.filter(pl.col("series") == name)
        if not own.height:
            found[name] = Missing(missing=NOT_BACKTESTED)
            continue
        own = own.filter(pl.col("weight") > 0) if "weight" in own.columns else own
        ladder, names = to_ladder(own), own["run"].to_list()
        results = []
        for split in backtest(ladder, spawn_seed(seed, name), factors):
            cheaper = ladder.take(split.cheaper)
            inner = backtest(cheaper, spawn_seed(seed, name, f"within {split.factor:g}"))
            results.append(split_result(split, ladder, names, widening(inner, cheaper.log_loss)))
        found[name] = _backtest(results)
    return found


def forecast_rows(backtests: Mapping[str, Backtest | Missing]) -> pl.DataFrame:
    """Every forecast run of backtests: series, split, run, distance, loss, forecast, low and high (95 %, a new run)."""
    schema = {"series": pl.String, "split": pl.Float64, "run": pl.String} | dict.fromkeys(
        ("distance", "loss", "forecast", "low", "high"), pl.Float64
    )
    parts = [
        pl.DataFrame(split.runs.model_dump()).with_columns(
            pl.lit(name).alias("series"), pl.lit(split.factor).alias("split")
        )
        for name, found in backtests.items()
        if isinstance(found, Backtest)
        for split in found.splits
    ]
    return pl.concat([pl.DataFrame(schema=schema), *(part.select(list(schema)) for part in parts)])


def split_result(split: BacktestSplit, ladder: Ladder, runs: list[str], scale: float) -> BacktestSplitResult:
    """One split for the file.

    Args:
        split: the forecasts.
        ladder: all runs of the backtest.
        runs: their names.
        scale: by which the intervals are widened.
    """
    observed = ladder.log_loss[split.dearer]
    inside = {
        level: float(np.mean((low <= observed) & (observed <= high)))
        for level, (low, high) in ((level, split.interval(level, scale)) for level in LEVELS)
    }
    low, high = split.interval(LEVELS[-1], scale)
    pool = _errors(split.centre, observed)
    return BacktestSplitResult(
        factor=split.factor,
        fitted=len(split.cheaper),
        forecast=len(split.dearer),
        scale=scale,
        pool=pool.model_copy(update={f"inside{level * 100:.0f}": share for level, share in inside.items()}),
        members={name: _errors(row, observed) for name, row in split.members.items()},
        runs=BacktestedRuns(
            run=[runs[row] for row in split.dearer],
            distance=rounded(split.distance),
            loss=rounded(np.exp(observed)),
            forecast=rounded(np.exp(split.centre)),
            low=rounded(np.exp(low)),
            high=rounded(np.exp(high)),
        ),
    )


def _member(fit: MemberFit, draws: Array, *, weight: float, left_out: str | None = None) -> MemberLaw:
    values, drawn = _values(fit.theta), _values(draws)
    return MemberLaw(
        formula=fit.member.formula,
        params=FamilyParams[float](**dict(zip(FAMILY_NAMES, values.tolist(), strict=True))),
        interval95=FamilyParams[Interval | None](
            **{name: percentile_interval(drawn[:, k]) for k, name in enumerate(FAMILY_NAMES)}
        ),
        noise=fit.noise,
        weight=weight,
        left_out=left_out,
        converged=fit.converged,
        convergence=fit.convergence,
        draws=FamilyParams[list[float]](
            **{name: rounded(drawn[:, k]) for k, name in enumerate(FAMILY_NAMES)}
        ),
    )


def _values(theta: Array) -> Array:
    """The parameters themselves (..., 7) of theta (..., 7), with E = 0 for the laws without it."""
    values = np.array(theta, dtype=float)
    values[..., LOGARITHMS] = np.exp(values[..., LOGARITHMS])
    values[..., FAMILY_NAMES.index("E")] *= theta[..., FAMILY_NAMES.index("E")] > LOG_NO_FLOOR + 1
    return values


def _errors(forecast: Array, observed: Array) -> ForecastErrors:
    error = forecast - observed
    return ForecastErrors(rms=float(np.sqrt(np.mean(error**2))), bias=float(error.mean()))


def _backtest(splits: list[BacktestSplitResult]) -> Backtest | Missing:
    if not splits:
        return Missing(missing=NOT_BACKTESTED)
    parts = [
        f"{split.pool.inside95:.0%} of {split.forecast} at up to {max(split.runs.distance):.3g} times the compute"
        for split in splits
    ]
    rms = max(split.pool.rms for split in splits)
    return Backtest(
        splits=splits,
        message=f"fitted to its cheaper runs, the pooled law misses its dearer runs by {rms:.2%} or less (rms); inside "
        f"the 95 % interval of a new run: {', '.join(parts)}",
    )
