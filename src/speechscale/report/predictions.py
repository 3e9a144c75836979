"""Predictions of the fitted laws along the axes of the figures, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from speechscale.laws.draws import LawDraws
from speechscale.laws.score_curves import ScoreCurves
from speechscale.records.law_sections import Missing
from speechscale.records.runs_table import is_single_epoch
from speechscale.records.score_law_sections import LinearScoreLaw, ScoreCurveLaw, ScoreLaw
from speechscale.report.folder import StudyResults

_STEPS = 60  # points of a drawn curve
_LOSSES = {"law": pl.String, "params": pl.Float64, "tokens": pl.Float64, "loss": pl.Float64}


def predicted_losses(study: StudyResults, series: str) -> pl.DataFrame:
    """`law`, `params`, `tokens`, `loss` of every size: one epoch over all D, repetition beyond one."""
    law = _law(study, series)
    if law is None:
        return pl.DataFrame(schema=_LOSSES)
    runs = study.done.filter(pl.col("series") == series)
    low, high = _range(runs["tokens"])
    unique = unique_token_limit(runs)
    sizes = runs["params"].unique().sort()
    parts = [_losses(law, size, _geometric_grid(low, high)) for size in sizes]
    if law.has_repeated_data and unique:
        repeated = law.with_repeated_data()
        parts += [_losses(repeated, size, _geometric_grid(unique, high), unique) for size in sizes]
    return pl.concat(parts)


def unique_token_limit(runs: pl.DataFrame) -> float | None:
    """Tokens of one epoch, if some run went beyond it and all such runs agree."""
    unique = runs.filter(~is_single_epoch())["unique_tokens"].unique()
    return float(unique[0]) if len(unique) == 1 else None


def single_epoch_runs(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs that saw their data once at most."""
    return runs.filter(is_single_epoch())


def least_losses(runs: pl.DataFrame, curves: pl.DataFrame) -> pl.DataFrame:
    """`flops`, `loss`: every point of runs and curves whose loss no cheaper point reaches, by rising compute.

    Drawn as steps they are nowhere above a point, which a fitted power law is.
    """
    points = pl.concat([table.select("flops", "loss") for table in (runs, curves)]).drop_nulls()
    points = points.sort("flops", "loss")
    return points.filter(pl.col("loss") < pl.col("loss").cum_min().shift(1, fill_value=np.inf))


def score_by_loss(study: StudyResults, series: str, task: str) -> pl.DataFrame:
    """`loss`, `accuracy` along the law of a task: the pooled curve where it is fitted, else the line."""
    losses = _geometric_grid(*_range(study.done.filter(pl.col("series") == series)["loss"]))
    law = _law(study, series)
    fitted = study.score_law(series, task)
    if law and task in law.scores:
        accuracies = law.scores[task].centre(-losses)
    elif isinstance(fitted, ScoreLaw) and isinstance(fitted.linear, LinearScoreLaw):
        accuracies = fitted.linear.intercept + fitted.linear.slope * losses
    else:
        return pl.DataFrame(schema={"loss": pl.Float64, "accuracy": pl.Float64})
    return pl.DataFrame({"loss": losses, "accuracy": accuracies})


def score_by_compute(study: StudyResults, series: str, task: str) -> pl.DataFrame:
    """`flops`, `accuracy` along the pooled curve of a task."""
    fitted = study.score_law(series, task)
    curve = fitted.by_compute if isinstance(fitted, ScoreLaw) else None
    if not isinstance(curve, ScoreCurveLaw):
        return pl.DataFrame(schema={"flops": pl.Float64, "accuracy": pl.Float64})
    flops = _geometric_grid(*_range(study.done.filter(pl.col("series") == series)["flops"]))
    accuracies = ScoreCurves.from_section(curve).centre(np.log(flops))
    return pl.DataFrame({"flops": flops, "accuracy": accuracies})


def _law(study: StudyResults, series: str) -> LawDraws | None:
    """The law with its draws; None where it is missing or did not converge, because that is not a result."""
    fitted = study.single_epoch(series)
    if study.law is None or isinstance(fitted, Missing) or not fitted.converged:
        return None
    return LawDraws.from_file(study.law, series)


def _losses(
    law: LawDraws, size: float, tokens: NDArray[np.float64], unique: float | None = None
) -> pl.DataFrame:
    """The centre of the law at one size; repetitions count where the unique tokens are given."""
    log_size = np.full(len(tokens), np.log(size))
    log_unique = None if unique is None else np.full(len(tokens), np.log(unique))
    losses = np.exp(law.centre(law.log_loss(log_size, np.log(tokens), log_unique)))
    name = "single epoch" if unique is None else "repeated data"
    return pl.DataFrame({"law": name, "params": size, "tokens": tokens, "loss": losses}, schema=_LOSSES)


def _range(values: Sequence[float] | pl.Series) -> tuple[float, float]:
    array = np.asarray(values, dtype=float)
    return float(array.min()), float(array.max())


def _geometric_grid(low: float, high: float) -> NDArray[np.float64]:
    return np.geomspace(low, high, _STEPS)
