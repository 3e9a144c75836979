"""The downstream section of a law file: the laws of every score of one series, or why they are missing."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.downstream import MIN_RUNS, DownstreamFit, ScoreData, fit_downstream
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.minimise import Array
from speechscale.laws.scores import Line, SaturatingCurves
from speechscale.laws.sections import finite_or_none
from speechscale.records.law import FitOptions, rounded
from speechscale.records.law_sections import (
    ComputeCurveIntervals,
    LinearScoreLaw,
    LossCurveDraws,
    LossCurveIntervals,
    Missing,
    OutOfSample,
    SaturatingComputeCurve,
    SaturatingLossCurve,
    ScoreEmergence,
    ScoreLaw,
)
from speechscale.records.score_columns import independent_items, known_chance
from speechscale.records.seeds import spawn_seed

BELOW_CHANCE = 3.0  # binomial standard deviations
FEW_ITEMS = 100  # assumed where the number of items is unknown
_NO_LOSS = "not every run with this score has a loss"
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
    content: dict[str, ScoreLaw | Missing] = {}
    fits: dict[str, DownstreamFit] = {}
    for name in names:
        data = _score_data(done, name, options)
        if isinstance(data, Missing):
            content[name] = data
            continue
        fits[name] = fit_downstream(
            data,
            base_law.laws if base_law else None,
            ceiling=options.ceiling,
            resamples=options.bootstrap,
            seed=spawn_seed(options.seed, "score", name),
        )
        content[name] = _score(fits[name])
    return content if names else Missing(missing="the table has no score columns"), fits


def _score_data(done: pl.DataFrame, name: str, options: FitOptions) -> ScoreData | Missing:
    scored = done.filter(pl.col(name).is_not_null())
    if scored.height < MIN_RUNS:
        return Missing(missing=f"{scored.height} runs have this score; {MIN_RUNS} are the least")
    items = independent_items(scored, name).fill_null(np.nan).to_numpy()
    chance = _chance(scored, name, options)
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


def _chance(scored: pl.DataFrame, name: str, options: FitOptions) -> float | None:
    """Score of guessing, from the first run that has it, because it is a property of the task; else as it is known."""
    if f"{name}_chance" in scored.columns:
        given = scored[f"{name}_chance"].drop_nulls()
        if len(given):
            return float(given[0])
    known = known_chance(name)
    return options.chance if known is None else known


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
        saturating=_loss_curve(fit.with_loss)
        if fit.with_loss
        else Missing(missing=_NO_RISE if fit.data.has_losses else _NO_LOSS),
        saturating_compute=_compute_curve(fit.with_compute)
        if fit.with_compute
        else Missing(missing=_NO_RISE),
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


def _loss_curve(curve: SaturatingCurves) -> SaturatingLossCurve:
    centre, steepness, ceiling = curve.curves.T
    draws = {"midpoint_loss": rounded(-centre[1:]), "steepness": rounded(steepness[1:])}
    if np.ptp(ceiling[1:]) != 0:
        draws["ceiling"] = rounded(ceiling[1:])
    return SaturatingLossCurve(
        floor=curve.floor,
        ceiling=float(ceiling[0]),
        midpoint_loss=float(-centre[0]),
        steepness=float(steepness[0]),
        dispersion=curve.dispersion,
        interval95=LossCurveIntervals(
            ceiling=percentile_interval(ceiling[1:]),
            midpoint_loss=percentile_interval(-centre[1:]),
            steepness=percentile_interval(steepness[1:]),
        ),
        draws=LossCurveDraws(**draws),
    )


def _compute_curve(curve: SaturatingCurves) -> SaturatingComputeCurve:
    centre, steepness, ceiling = curve.curves.T
    return SaturatingComputeCurve(
        floor=curve.floor,
        ceiling=float(ceiling[0]),
        midpoint_flops=float(_flops(centre[0])),
        steepness=float(steepness[0]),
        dispersion=curve.dispersion,
        interval95=ComputeCurveIntervals(
            ceiling=percentile_interval(ceiling[1:]),
            midpoint_flops=percentile_interval(_flops(centre[1:])),
            steepness=percentile_interval(steepness[1:]),
        ),
    )


def _flops(log_flops: Array) -> Array:
    return np.exp(np.minimum(log_flops, 700.0))
