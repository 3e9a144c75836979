"""The downstream section of a law file: the laws of every score of one series, or why they are missing."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechscale.laws.backtest import LEVELS, BacktestSplit
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.downstream import MIN_RUNS, DownstreamFit, ScoreData, ScoreFitOptions, fit_downstream
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.minimise import Array
from speechscale.laws.score_curves import LINKS
from speechscale.laws.score_fit import ScoreFit
from speechscale.laws.score_pool import MIN_CHEAPER_RUNS, MIN_VALUES, ScorePool
from speechscale.laws.scores import CEILING, FEW_ITEMS, Line, Predictor, to_score
from speechscale.laws.sections import finite_or_none
from speechscale.records.law import FitOptions, rounded
from speechscale.records.law_sections import Interval, Missing
from speechscale.records.score_columns import chance_of, independent_items
from speechscale.records.score_law_sections import (
    LinearScoreLaw,
    OutOfSample,
    ScoreBacktest,
    ScoreBacktestSplit,
    ScoreCurveLaw,
    ScoreCurveParams,
    ScoreEmergence,
    ScoreForecastErrors,
    ScoreLaw,
    ScoreMemberLaw,
)

BELOW_CHANCE = 3.0  # binomial standard deviations
_NO_LOSS = "not every run with this score has a loss"
_NOT_BACKTESTED = (
    f"not backtested: no split leaves {MIN_CHEAPER_RUNS} cheaper runs or more with {MIN_VALUES} values of loss or "
    "compute, and a dearer run"
)
_NO_RISE = "these scores do not rise above chance"


def downstream(
    done: pl.DataFrame, names: list[str], base_law: FittedLaw | None, options: FitOptions
) -> tuple[dict[str, ScoreLaw | Missing] | Missing, dict[str, DownstreamFit]]:
    """The laws of every score, for the file and for the comparison of series.

    Args:
        done: runs whose scores count.
        names: columns of scores.
        base_law: the single-epoch law; None where it is missing.
        options: of the fit.
    """
    found = {name: _score_data(done, name, options) for name in names}
    fits = fit_downstream(
        {name: data for name, data in found.items() if isinstance(data, ScoreData)},
        base_law.laws if base_law else None,
        ScoreFitOptions(options.ceiling or CEILING, options.bootstrap),
        seed=options.seed,
    )
    content = {
        name: data if isinstance(data, Missing) else _score(fits[name]) for name, data in found.items()
    }
    return content if names else Missing(missing="the table has no score columns"), fits


def _score_data(done: pl.DataFrame, name: str, options: FitOptions) -> ScoreData | Missing:
    scored = done.filter(pl.col(name).is_not_null())
    if scored.height < MIN_RUNS:
        return Missing(missing=f"{scored.height} runs have this score; {MIN_RUNS} are the least")
    items = independent_items(scored, name).fill_null(np.nan).to_numpy()
    chance = chance_of(scored, name)
    if chance is None:
        chance = options.chance
    if chance is None:
        return Missing(
            missing=f"its chance is not known: state it in a column {name}_chance, or with --chance (0.5 for two-way "
            "choices)"
        )
    score = scored[name].to_numpy()
    if _below_chance(score, items, chance):
        return Missing(
            missing=f"its scores ({score.min():.3g} to {score.max():.3g}) are below its chance of {chance:g}: state "
            f"its own chance in a column {name}_chance, or with --chance"
        )
    if options.ceiling is not None and options.ceiling <= chance:
        return Missing(missing=f"the ceiling of {options.ceiling:g} is not above its chance of {chance:g}")
    flops, loss, score = (scored[column].to_numpy() for column in ("flops", "loss", name))
    return ScoreData.of(flops, loss, score, items, chance)


def _below_chance(score: Array, items: Array, chance: float) -> bool:
    """Whether even the best score is below chance by more than its items explain: then the chance is another one."""
    best = int(np.argmax(score))
    known = items[best] if np.isfinite(items[best]) else FEW_ITEMS
    return bool(score[best] < chance - BELOW_CHANCE * np.sqrt(chance * (1 - chance) / known))


def _score(fit: DownstreamFit) -> ScoreLaw:
    errors = fit.forecast_errors
    return ScoreLaw(
        runs=len(fit.data.score),
        chance=fit.data.chance,
        gamma=fit.power.gamma,
        coefficient=finite_or_none(fit.power.coefficient),
        interval95=percentile_interval(fit.power.draws),
        linear=_linear(fit.line),
        by_loss=_curve_law(fit.by_loss) or Missing(missing=_NO_RISE if fit.data.has_losses else _NO_LOSS),
        by_compute=_curve_law(fit.by_compute) or Missing(missing=_NO_RISE),
        out_of_sample=OutOfSample(rmse=errors, best=min(errors, key=errors.__getitem__))
        if errors
        else Missing(missing="too few runs to fit on the cheap ones and forecast the expensive ones"),
        emergence=ScoreEmergence(
            margin=fit.emergence.margin,
            flops=fit.emergence.flops,
            interval95=percentile_interval(fit.emergence.draws) if fit.emergence.flops else None,
            message=fit.emergence.message + _open_end(fit),
        ),
    )


def _linear(line: Line | None) -> LinearScoreLaw | Missing:
    if line is None:
        return Missing(missing=_NO_LOSS)
    return LinearScoreLaw(
        slope=line.slope, intercept=line.intercept, r2=line.r2, slope_se=finite_or_none(line.slope_se)
    )


def _open_end(fit: DownstreamFit) -> str:
    if fit.emergence.flops is None or percentile_interval(fit.emergence.draws) is not None:
        return ""
    return "; the upper end is open: some draws of the law never get there"


def _curve_law(pool: ScorePool | None) -> ScoreCurveLaw | None:
    if pool is None:
        return None
    points = pool.points
    weight = 1 / len(pool.fits)
    return ScoreCurveLaw(
        against=points.against,
        floor=points.chance,
        items=points.usual_items,
        members={fit.member: _member(fit, points.against, weight) for fit in pool.fits}
        | {fit.member: _member(fit, points.against, 0.0) for fit in pool.left_out},
        scale=pool.curves.scale,
        backtest=_backtest(pool),
    )


def _member(fit: ScoreFit, against: Predictor, weight: float) -> ScoreMemberLaw:
    values, drawn = _values(fit.curve, against), _values(fit.draws if weight else fit.draws[:0], against)
    names = tuple(ScoreCurveParams.model_fields)
    return ScoreMemberLaw(
        formula=LINKS[fit.member].formula,
        params=ScoreCurveParams[float](**dict(zip(names, values.tolist(), strict=True))),
        interval95=ScoreCurveParams[Interval | None](
            **{name: percentile_interval(drawn[:, k]) for k, name in enumerate(names)}
        ),
        dispersion=fit.dispersion,
        noise=fit.noise,
        weight=weight,
        converged=fit.converged,
        draws=ScoreCurveParams[list[float]](**{name: rounded(drawn[:, k]) for k, name in enumerate(names)}),
    )


def _values(curves: Array, against: Predictor) -> Array:
    """(midpoint, steepness, ceiling) (..., 3) with the midpoint as a loss or a compute."""
    midpoint = curves[..., 0]
    values = np.array(curves)
    values[..., 0] = -midpoint if against == "loss" else np.exp(np.clip(midpoint, -700.0, 700.0))
    return values


def _backtest(pool: ScorePool) -> ScoreBacktest | Missing:
    if not pool.splits:
        return Missing(missing=_NOT_BACKTESTED)
    splits = [_backtest_split(split, pool.points.score[split.dearer]) for split in pool.splits]
    error = max(split.pool.mean_absolute for split in splits)
    parts = [
        f"{split.pool.inside95 or 0.0:.0%} of {split.forecast} at up to {split.distance:.3g} times the compute"
        for split in splits
    ]
    return ScoreBacktest(
        splits=splits,
        message=f"fitted to its cheaper runs, the pooled curve misses the scores of its dearer runs by "
        f"{100 * error:.2g} points or less (mean absolute error); inside the 95 % interval of a new score: "
        + ", ".join(parts),
    )


def _backtest_split(split: BacktestSplit, observed: Array) -> ScoreBacktestSplit:
    low, high = (to_score(end) for end in split.interval(LEVELS[-1]))
    inside = float(np.mean((low <= observed) & (observed <= high)))
    return ScoreBacktestSplit(
        factor=split.factor,
        fitted=len(split.cheaper),
        forecast=len(split.dearer),
        distance=float(split.distance.max()),
        pool=_errors(split.centre, observed).model_copy(update={"inside95": inside}),
        members={name: _errors(row, observed) for name, row in split.members.items()},
    )


def _errors(angles: Array, observed: Array) -> ScoreForecastErrors:
    error = to_score(angles) - observed
    return ScoreForecastErrors(mean_absolute=float(np.mean(np.abs(error))), bias=float(np.mean(error)))
