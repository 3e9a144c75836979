"""What the fitted laws say along the axes of the figures, as tables; the formulas are those of `laws`."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from speechscale.laws import forms, repeated
from speechscale.laws.scores import Saturating
from speechscale.report.charts import EPOCH_TOLERANCE
from speechscale.report.folder import Study

_STEPS = 60  # points of a drawn curve
_LOSSES: dict[str, Any] = {"law": pl.String, "params": pl.Float64, "tokens": pl.Float64, "loss": pl.Float64}


def predicted_losses(study: Study, series: str) -> pl.DataFrame:
    """`law`, `params`, `tokens`, `loss` of every size: one epoch over all D, repetition beyond one."""
    single = study.law_part(series, "single_epoch")
    if "missing" in single:
        return pl.DataFrame(schema=_LOSSES)
    runs = study.done.filter(pl.col("series") == series)
    sizes, most = runs["params"].unique().sort().to_list(), _bounds(runs["tokens"])[1]
    theta = forms.to_theta(single["params"])
    parts = [_single_epoch(theta, size, _spaced(*_bounds(runs["tokens"]))) for size in sizes]
    rates = study.law_part(series, "repeated").get("params") or {}
    unique = one_epoch(runs)
    if unique and all(rates.get(name) for name in repeated.RATES):
        theta = np.concatenate([theta, np.log([rates[name] for name in repeated.RATES])])
        parts += [_repeated(theta, size, _spaced(unique, most), unique) for size in sizes]
    return pl.concat(parts)


def one_epoch(runs: pl.DataFrame) -> float | None:
    """Tokens of one epoch, if some run went beyond it and all such runs agree."""
    unique = runs.filter(pl.col("epochs") > EPOCH_TOLERANCE)["unique_tokens"].unique()
    return float(unique[0]) if len(unique) == 1 else None


def envelope_line(study: Study, series: str) -> pl.DataFrame:
    """`flops`, `loss` along the fitted envelope."""
    fitted = study.law_part(series, "envelope")
    if "missing" in fitted:
        return pl.DataFrame(schema={"flops": pl.Float64, "loss": pl.Float64})
    flops = _spaced(*_bounds(study.done.filter(pl.col("series") == series)["flops"]))
    params = fitted["params"]
    return pl.DataFrame({"flops": flops, "loss": params["coefficient"] * flops ** params["gamma"]})


def score_by_loss(study: Study, series: str, task: str) -> pl.DataFrame:
    """`loss`, `accuracy` along the law of a task: saturating where that is fitted, else linear."""
    fitted = study.law_part(series, "downstream").get(task) or {}
    losses = _spaced(*_bounds(study.done.filter(pl.col("series") == series)["loss"]))
    curve, linear = fitted.get("saturating") or {}, fitted.get("linear") or {}
    if "midpoint_loss" in curve:
        accuracies = _saturating(curve, -curve["midpoint_loss"]).score(-losses)
    elif "slope" in linear:
        accuracies = linear["intercept"] + linear["slope"] * losses
    else:
        return pl.DataFrame(schema={"loss": pl.Float64, "accuracy": pl.Float64})
    return pl.DataFrame({"loss": losses, "accuracy": accuracies})


def score_by_compute(study: Study, series: str, task: str) -> pl.DataFrame:
    """`flops`, `accuracy` along the saturating law of a task."""
    curve = (study.law_part(series, "downstream").get(task) or {}).get("saturating_compute") or {}
    if "midpoint_flops" not in curve:
        return pl.DataFrame(schema={"flops": pl.Float64, "accuracy": pl.Float64})
    flops = _spaced(*_bounds(study.done.filter(pl.col("series") == series)["flops"]))
    accuracies = _saturating(curve, float(np.log(curve["midpoint_flops"]))).score(np.log(flops))
    return pl.DataFrame({"flops": flops, "accuracy": accuracies})


def _saturating(curve: dict[str, Any], midpoint: float) -> Saturating:
    shape = np.array([[midpoint, curve["steepness"], curve["ceiling"]]])
    return Saturating(curve["floor"], shape, curve.get("dispersion", 1.0))


def _single_epoch(theta: NDArray[np.float64], size: float, tokens: NDArray[np.float64]) -> pl.DataFrame:
    losses = np.exp(forms.log_loss(theta, np.log(size), np.log(tokens)))
    return pl.DataFrame(
        {"law": "single epoch", "params": size, "tokens": tokens, "loss": losses}, schema=_LOSSES
    )


def _repeated(
    theta: NDArray[np.float64], size: float, tokens: NDArray[np.float64], unique: float
) -> pl.DataFrame:
    log_size, log_unique = np.full(len(tokens), np.log(size)), np.full(len(tokens), np.log(unique))
    effective = repeated.log_effective(theta, log_size, np.log(tokens), log_unique)
    losses = np.exp(forms.log_loss(theta[:5], *effective))
    return pl.DataFrame(
        {"law": "repeated data", "params": size, "tokens": tokens, "loss": losses}, schema=_LOSSES
    )


def _bounds(values: pl.Series) -> tuple[float, float]:
    return float(values.to_numpy().min()), float(values.to_numpy().max())


def _spaced(low: float, high: float) -> NDArray[np.float64]:
    return np.geomspace(low, high, _STEPS)
