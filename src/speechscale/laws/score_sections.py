"""The downstream section of a law file: every score of one series told as JSON, or {"missing": why}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from speechscale.laws.bootstrap import interval
from speechscale.laws.downstream import LEAST_RUNS, Downstream, ScoreData, fit_downstream
from speechscale.laws.minimise import Array
from speechscale.laws.scores import Saturating
from speechscale.laws.sections import FittedLaw, Options, number
from speechscale.records.law import rounded

_NO_LOSS = "not every run with this score has a loss"


def downstream(
    done: pl.DataFrame, names: list[str], first: FittedLaw | None, options: Options
) -> tuple[dict[str, Any], dict[str, Downstream]]:
    content: dict[str, Any] = {}
    fits: dict[str, Downstream] = {}
    for name in names:
        scored = done.filter(pl.col(name).is_not_null())
        if scored.height < LEAST_RUNS:
            content[name] = {"missing": f"{scored.height} runs have this score; {LEAST_RUNS} are the least"}
            continue
        unknown = pl.Series(f"{name}_items", [None] * scored.height, dtype=pl.Float64)
        items = scored.get_column(f"{name}_items", default=unknown).fill_null(np.nan).to_numpy()
        chance = _chance(scored, name, options)
        if options.ceiling is not None and options.ceiling <= chance:
            content[name] = {
                "missing": f"the ceiling of {options.ceiling:g} is not above its chance of {chance:g}"
            }
            continue
        flops, loss, score = (scored[column].to_numpy() for column in ("flops", "loss", name))
        data = ScoreData.of(flops, loss, score, items, chance)
        fits[name] = fit_downstream(
            data,
            first.laws if first else None,
            ceiling=options.ceiling,
            resamples=options.bootstrap,
            seed=options.seed,
        )
        content[name] = _score(fits[name])
    if not names:
        return {"missing": "the table has no score columns"}, fits
    return content, fits


def _chance(scored: pl.DataFrame, name: str, options: Options) -> float:
    """What guessing scores: as the first run says, for it is a property of the task."""
    if f"{name}_chance" not in scored.columns:
        return options.chance
    said = scored[f"{name}_chance"].drop_nulls()
    return float(said[0]) if len(said) else options.chance


def _score(fit: Downstream) -> dict[str, Any]:
    never = "these scores do not rise above chance"
    return {
        "runs": len(fit.data.score),
        "chance": fit.data.chance,
        "gamma": fit.power.gamma,
        "coefficient": number(fit.power.coefficient),
        "interval95": interval(fit.power.draws),
        "linear": _line(fit.line),
        "saturating": {
            **_curve(fit.with_loss, "midpoint_loss", lambda x: -x),
            "draws": _curve_draws(fit.with_loss),
        }
        if fit.with_loss
        else {"missing": never if fit.data.has_losses else _NO_LOSS},
        "saturating_compute": _curve(fit.with_compute, "midpoint_flops", _flops)
        if fit.with_compute
        else {"missing": never},
        "out_of_sample": {
            "rmse": fit.forecast_errors,
            "best": min(fit.forecast_errors, key=fit.forecast_errors.__getitem__),
        }
        if fit.forecast_errors
        else {"missing": "too few runs to fit on the cheap ones and forecast the dear ones"},
        "emergence": {
            "margin": fit.emergence.margin,
            "flops": fit.emergence.flops,
            "interval95": interval(fit.emergence.draws) if fit.emergence.flops else None,
            "says": fit.emergence.says + _open_end(fit),
        },
    }


def _line(line: tuple[float, float, float, float] | None) -> dict[str, Any]:
    if line is None:
        return {"missing": _NO_LOSS}
    slope, intercept, r2, error = line
    return {"slope": slope, "intercept": intercept, "r2": r2, "slope_se": number(error)}


def _open_end(fit: Downstream) -> str:
    if fit.emergence.flops is None or interval(fit.emergence.draws) is not None:
        return ""
    return "; the upper end is open: some draws of the law never get there"


def _curve(curve: Saturating, midpoint: str, unit: Callable[[Array], Array]) -> dict[str, Any]:
    centre, steepness, ceiling = curve.curves.T
    return {
        "floor": curve.floor,
        "ceiling": float(ceiling[0]),
        midpoint: float(unit(centre[0])),
        "steepness": float(steepness[0]),
        "dispersion": curve.dispersion,
        "interval95": {
            "ceiling": interval(ceiling[1:]),
            midpoint: interval(unit(centre[1:])),
            "steepness": interval(steepness[1:]),
        },
    }


def _curve_draws(curve: Saturating) -> dict[str, list[float]]:
    """Draws of a curve in loss; the ceiling's only where it was fitted."""
    centre, steepness, ceiling = curve.curves[1:].T
    draws = {"midpoint_loss": rounded(-centre), "steepness": rounded(steepness)}
    return draws if np.ptp(ceiling) == 0 else {**draws, "ceiling": rounded(ceiling)}


def _flops(log_flops: Array) -> Array:
    return np.exp(np.minimum(log_flops, 700.0))
