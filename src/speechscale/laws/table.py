"""From a table of runs to the content of a law file: every law of every series, or why it is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from speechscale.errors import UserError, nearest
from speechscale.laws import score_sections, sections
from speechscale.laws.checks import check_ladder, check_table
from speechscale.laws.downstream import Downstream
from speechscale.laws.efficiency import compare
from speechscale.laws.sections import LAWS, Options
from speechscale.records.law import SCHEMA
from speechscale.records.runs_table import canonical_table, score_names

# Runs whose scores count: a model that others trained may have scores without a loss on our test set.
SCORED = ("done", "imported")
_ITS_SCORES = ": its scores count, for the laws of loss it has none"
ONE_EPOCH = 1 + 1e-9  # tokens per unique token up to which a run is of a single epoch


def fit_table(
    runs: Any,
    *,
    curves: pl.DataFrame | None = None,
    series: Sequence[str] | None = None,
    laws: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> dict[str, Any]:
    """Fit every law to every series of a table of runs.

    Args:
        runs: a polars, pandas or Arrow table, or mapping of columns: params, tokens, loss; run, series, status,
            unique_tokens, flops and scores where known (`records.runs.canonical_table`).
        curves: learning curves for the envelope: run, series, flops, loss.
        series: which series; all when None.
        laws: which of LAWS; all when None.
        progress: called with a word on what begins.
        options: see `Options`.

    Returns:
        The content of a law file (docs/laws.md describes it).

    Raises:
        UserError: a bad table, an unknown series or law, or no run that was completed.
    """
    table = canonical_table(runs)
    if not table["status"].is_in(SCORED).any():
        found = ", ".join(repr(status) for status in table["status"].unique().sort())
        raise UserError(
            f"no run has the status 'done' (found {found}), so there is nothing to fit; complete a run, or correct the "
            "column 'status'."
        )
    chosen = Options(laws=_known(laws, LAWS, "law"), **options)
    names = _known(series, tuple(dict.fromkeys(table["series"])), "series")
    law: dict[str, Any] = {"schema": SCHEMA, "options": asdict(chosen), "series": {}, "efficiency": {}}
    fitted: dict[str, dict[str, Downstream]] = {}
    for name in names:
        progress(name)
        own = table.filter(pl.col("series") == name)
        own_curves = curves.filter(pl.col("series") == name) if curves is not None else None
        law["series"][name], fitted[name] = _fit_series(own, own_curves, chosen)
    if "efficiency" in chosen.laws:
        pairs = [(one, other) for one in names for other in names if one != other]
        law["efficiency"] = {f"{one}/{other}": compare(one, other, fitted) for one, other in pairs}
        if not pairs:
            law["efficiency"] = {"missing": "one series only; a comparison takes two"}
    return law


def _fit_series(
    table: pl.DataFrame, curves: pl.DataFrame | None, options: Options
) -> tuple[dict[str, Any], dict[str, Downstream]]:
    """The content of one series, and its downstream fits for the comparison of series."""
    done = table.filter(pl.col("status") == "done")
    once = pl.col("tokens") <= pl.col("unique_tokens") * ONE_EPOCH
    single, multi = done.filter(once), done.filter(~once)
    content: dict[str, Any] = {"rows": _rows(table, multi), "checks": check_table(done)}
    if "bits_per_second" in done.columns:  # loss per second over loss per token
        content["tokens_per_second"] = (done["bits_per_second"] * np.log(2) / done["loss"]).median()

    # Every later law leans on the single-epoch one, so it is fitted even where it was not asked for.
    content["single_epoch"], first = sections.single_epoch(single, options)
    if first is not None:
        content["checks"] += check_ladder(first.fit, first.draws, single["run"].to_list())
    if options.rollout is not None:
        content["rollout"] = sections.rollout(single, options.rollout, options)
    if "repeated" in options.laws:
        content["repeated"] = sections.repeated(first, done, multi, options)
    if "envelope" in options.laws:
        content["envelope"] = sections.envelope(single, curves, options)
    if "isoflop" in options.laws:
        content["isoflop"] = sections.isoflop(single, first, options)
    scores: dict[str, Downstream] = {}
    if "downstream" in options.laws or "efficiency" in options.laws:
        scored = table.filter(pl.col("status").is_in(SCORED))
        content["downstream"], scores = score_sections.downstream(scored, score_names(table), first, options)
    return content, scores


def _rows(table: pl.DataFrame, multi: pl.DataFrame) -> dict[str, Any]:
    """Which rows the single-epoch law used, and by which rule the others were left out."""
    epochs = multi["tokens"] / multi["unique_tokens"]
    dropped = [
        {"run": run, "why": f"status is {status!r}, not 'done'" + _ITS_SCORES * (status == "imported")}
        for run, status in table.filter(pl.col("status") != "done").select("run", "status").iter_rows()
    ]
    dropped += [
        {"run": run, "why": f"{count:.3g} epochs: for the repeated-data law only"}
        for run, count in zip(multi["run"], epochs, strict=True)
    ]
    return {"used": table.height - len(dropped), "dropped": dropped}


def _known(given: Sequence[str] | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if given is None:
        return known
    for name in given:
        if name not in known:
            raise UserError(
                f"{what} {name!r} is unknown{nearest(name, known)}; there are {', '.join(known)}."
            )
    return tuple(given)
