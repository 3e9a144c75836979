"""Fitting of every law to every series of a table of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws import score_sections, sections
from speechscale.laws.checks import check_law, check_table, forecast_checks
from speechscale.laws.downstream import DownstreamFit
from speechscale.laws.efficiency import compare_efficiency
from speechscale.laws.forecast_section import forecast
from speechscale.laws.isoflop_section import isoflop, isoflop_checks
from speechscale.laws.options import chosen_series, fit_options
from speechscale.laws.repeated_section import repeated, repeated_checks
from speechscale.records.law import FitOptions, LawFile, SeriesLaw
from speechscale.records.law_sections import DroppedRun, EfficiencyRatio, Missing, Rows
from speechscale.records.runs_table import canonical_table, is_single_epoch
from speechscale.records.score_columns import score_names, unused_names
from speechscale.records.seeds import spawn_seed

# Runs whose scores count: a model that others trained may have scores without a loss on our test set.
SCORED = ("done", "imported")
_ITS_SCORES = ": its scores count, for the laws of loss it has none"


def fit_table(
    runs: Any,
    *,
    curves: pl.DataFrame | None = None,
    series: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> LawFile:
    """Fit every law to every series of a table of runs.

    Args:
        runs: a polars, pandas or Arrow table, or mapping of columns: params, tokens, loss; run, series, status,
            unique_tokens, flops and scores where known (`records.runs.canonical_table`).
        curves: learning curves for the envelope: run, series, flops, loss.
        series: which series; all when None.
        progress: called with the name of each series before its fit.
        options: fields of `records.law.FitOptions`; see `laws.options.fit_options`.

    Raises:
        UserError: a bad table, an unknown series or law, or no run that was completed.
    """
    chosen = fit_options(**options)
    table = canonical_table(runs, scores=chosen.scores)
    if not table["status"].is_in(SCORED).any():
        found = ", ".join(repr(status) for status in table["status"].unique().sort())
        raise UserError(
            f"no run has the status 'done' (found {found}), so there is nothing to fit; complete a run, or correct the "
            "column 'status'."
        )
    names = chosen_series(series, tuple(dict.fromkeys(table["series"])))
    laws: dict[str, SeriesLaw] = {}
    fitted: dict[str, dict[str, DownstreamFit]] = {}
    for name in names:
        progress(name)
        own = table.filter(pl.col("series") == name)
        own_curves = curves.filter(pl.col("series") == name) if curves is not None else None
        # Each series has random streams of its own, so that comparisons of series draw them independently.
        own_options = chosen.model_copy(update={"seed": spawn_seed(chosen.seed, name)})
        laws[name], fitted[name] = _fit_series(own, own_curves, own_options)
    return LawFile(options=chosen, series=laws, efficiency=_efficiency(names, fitted, chosen))


def _efficiency(
    names: Sequence[str], fitted: dict[str, dict[str, DownstreamFit]], options: FitOptions
) -> dict[str, dict[str, EfficiencyRatio | Missing]] | Missing:
    if "efficiency" not in options.laws:
        return {}
    if len(names) < 2:
        return Missing(missing="one series only; a comparison takes two")
    pairs = [(one, other) for one in names for other in names if one != other]
    return {f"{one}/{other}": compare_efficiency(one, other, fitted) for one, other in pairs}


def _fit_series(
    table: pl.DataFrame, curves: pl.DataFrame | None, options: FitOptions
) -> tuple[SeriesLaw, dict[str, DownstreamFit]]:
    """The laws of one series, and its downstream fits for the comparison of series."""
    done = table.filter(pl.col("status") == "done")
    single, multi = done.filter(is_single_epoch()), done.filter(~is_single_epoch())
    checks = check_table(done, unused_names(table, options.scores))
    # Every later law builds on the single-epoch one, so it is fitted even where it was not asked for.
    single_epoch, base_law = sections.single_epoch(single, options)
    if base_law is not None:
        checks += check_law(base_law, single["run"].to_list())
    # Only what was asked for is set: the file leaves out the rest.
    law = SeriesLaw(rows=_rows(table, multi), checks=checks, single_epoch=single_epoch)
    found: dict[str, Any] = {}
    if "bits_per_second" in done.columns:  # loss per second over loss per token
        found["tokens_per_second"] = (done["bits_per_second"] * np.log(2) / done["loss"]).median()
    if options.law == "pooled" and base_law is not None:
        pooled = forecast(base_law.fit.ladder, single["run"].to_list(), options)
        found["forecast"] = pooled
        checks += forecast_checks(pooled)
    if "repeated" in options.laws:
        found["repeated"] = repeated(base_law, done, multi, options)
        checks += repeated_checks(found["repeated"])
    if "envelope" in options.laws:
        found["envelope"] = sections.envelope(single, curves, options)
    if "isoflop" in options.laws:
        found["isoflop"] = isoflop(single, base_law, law.model_copy(update=found), options)
        checks += isoflop_checks(found["isoflop"])
    scores: dict[str, DownstreamFit] = {}
    if "downstream" in options.laws or "efficiency" in options.laws:
        scored = table.filter(pl.col("status").is_in(SCORED))
        found["downstream"], scores = score_sections.downstream(
            scored, score_names(table, options.scores), base_law, options
        )
    return law.model_copy(update={**found, "checks": checks}), scores


def _rows(table: pl.DataFrame, multi: pl.DataFrame) -> Rows:
    """Which rows the single-epoch law used, and by which rule the others were left out."""
    epochs = multi["tokens"] / multi["unique_tokens"]
    dropped = [
        DroppedRun(run=run, reason=f"status is {status!r}, not 'done'" + _ITS_SCORES * (status == "imported"))
        for run, status in table.filter(pl.col("status") != "done").select("run", "status").iter_rows()
    ]
    dropped += [
        DroppedRun(run=run, reason=f"{count:.3g} epochs: for the repeated-data law only")
        for run, count in zip(multi["run"], epochs, strict=True)
    ]
    return Rows(used=table.height - len(dropped), dropped=dropped)
