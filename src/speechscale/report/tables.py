"""The tables of the page: the runs, the laws, and the runs that did not finish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from speechscale.laws.published_laws import PUBLISHED_LAWS
from speechscale.records.law_sections import IsoflopLaw, Missing, OpenInterval, Rows
from speechscale.records.score_law_sections import ScoreLaw
from speechscale.report import formatting
from speechscale.report.comparison import PHENOMENON_SEPARATOR, RATIO_EXPLANATION, efficiency_comparisons
from speechscale.report.figures import main_scores, tasks_in_order
from speechscale.report.folder import UNSEEN, StudyResults
from speechscale.report.markup import Markup, element, joined

_PARAMETERS = (  # key, symbol, meaning
    ("E", "E", "irreducible loss, nats/token"),
    ("A", "A", "of the term A/Nᵅ"),
    ("alpha", "α", "how fast loss falls with N"),
    ("B", "B", "of the term B/Dᵝ"),
    ("beta", "β", "how fast loss falls with D"),
    ("a", "a", "best N ∝ Cᵃ"),
    ("b", "b", "best D ∝ Cᵇ"),
    ("R_D", "R_D", "repetitions after which data are used up"),
    ("R_N", "R_N", "the same for excess parameters"),
    ("coefficient", "k", "of the envelope L = k·Cᵞ"),
    ("gamma", "γ", "how fast the least loss falls with C"),
)
_PLACE = ("series", "run", "task", "condition")  # what one score belongs to


def runs_table(study: StudyResults) -> Markup:
    """Every finished run with its scores and their intervals."""
    scores = main_scores(study)
    columns = [
        (task, condition)
        for task in tasks_in_order(scores)
        for condition in formatting.CONDITIONS
        if scores.filter((pl.col("task") == task) & (pl.col("condition") == condition)).height
    ]
    by_place = {tuple(row[key] for key in _PLACE): row for row in scores.iter_rows(named=True)}
    head = ["run", "N", "D", "epochs", "6ND", "loss", "bits/s"]
    head += [
        f"{formatting.short_task(task)}, {formatting.CONDITIONS[condition]}" for task, condition in columns
    ]
    several = len(study.series) > 1
    rows = [
        [
            f"{run['series']} · {run['run']}" if several else run["run"],
            formatting.quantity(run["params"]),
            formatting.quantity(run["tokens"]),
            formatting.digits(run["epochs"], 2),
            formatting.power(run["flops"]),
            _with_note(
                formatting.loss(run["loss"]), f"± {run['loss_se']:.4f}" if run["loss_se"] is not None else ""
            ),
            formatting.digits(run["bits_per_second"]),
            *(_score(by_place.get((run["series"], run["run"], *column))) for column in columns),
        ]
        for run in study.done.iter_rows(named=True)
    ]
    return table(head, rows)


def unfinished_runs(study: StudyResults) -> Markup:
    """The runs that diverged or failed, with their note; they enter neither figures nor fits."""
    unfinished = study.runs.filter(pl.col("status") != "done")
    if unfinished.is_empty():
        return element("p", "Every run finished.")
    rows = [
        [run["run"], formatting.quantity(run["params"]), formatting.quantity(run["tokens"]), run["status"],
         study.notes.get(run["run"], "no note was kept")]
        for run in unfinished.iter_rows(named=True)
    ]  # fmt: skip
    return table(["run", "N", "D", "status", "note"], rows, last_is_prose=True)


def law_table(study: StudyResults) -> Markup:
    """Parameters of the laws of every series with intervals, and published parameters, which have none."""
    published = {
        f"{name}, {law.source}": law.params | (law.rates or {}) for name, law in PUBLISHED_LAWS.items()
    }
    head = ["", *study.series, *published, "meaning"]
    fitted = [_law_parameters(study, series) for series in study.series]
    rows = [
        [
            symbol,
            *(cells.get(key, formatting.digits(None)) for cells in fitted),
            *(formatting.digits(values.get(key)) for values in published.values()),
            meaning,
        ]
        for key, symbol, meaning in _PARAMETERS
    ]
    return joined(table(head, rows, last_is_prose=True), *_law_remarks(study), *_isoflop_tables(study))


def _isoflop_tables(study: StudyResults) -> list[Markup]:
    """For each series with IsoFLOP minima, the best size at every budget beside that of the loss law."""
    tables = []
    for series in study.series:
        law = study.isoflop(series)
        if not isinstance(law, IsoflopLaw):
            continue
        rows = [
            [
                formatting.power(budget.flops),
                _sized(budget.params, budget.interval95),
                _sized(budget.by_law.params, budget.by_law.interval95) if budget.by_law else "–",
                budget.refused or "",
            ]
            for budget in law.budgets
        ]
        by_law = law.by_law
        exponent = law.interval95.a if law.interval95 else None
        rows.append(
            [
                "exponent a",
                _with_note(formatting.digits(law.params.a), formatting.bounds(exponent)),
                _with_note(formatting.digits(by_law.a), formatting.bounds(by_law.interval95))
                if by_law
                else "–",
                "",
            ]
        )
        name = f"{series}, best N by" if len(study.series) > 1 else "best N by"
        tables.append(
            table([f"{name} budget", "IsoFLOP minimum", "loss law, same runs", ""], rows, last_is_prose=True)
        )
    return tables


def _sized(params: float | None, bounds: OpenInterval | None) -> Markup | str:
    """A number of parameters with its interval."""
    if params is None:
        return "–"
    ends = "" if bounds is None else f"[{', '.join(formatting.quantity(end) for end in bounds if end)}]"
    return _with_note(formatting.quantity(params), ends)


def downstream_table(study: StudyResults) -> Markup:
    """How each score grows with compute and with falling loss, and where it leaves chance."""
    rows: list[list[str]] = []
    for series in study.series:
        fits = study.downstream(series)
        if isinstance(fits, Missing):
            rows.append([series, "–", "–", "–", "–", fits.missing])
            continue
        names = [
            name for name in fits if PHENOMENON_SEPARATOR not in name
        ]  # single phenomena have too few items
        rows += [[series, _score_name(name), *_downstream(fits[name])] for name in names]
    head = ["series", "score", "γ of Q ∝ Cᵞ", "slope against loss", "r²", "emergence"]
    return table(head, rows, last_is_prose=True)


def efficiency_table(study: StudyResults) -> Markup:
    """Ratios of the efficiency exponents of every two series, with an explanation."""
    rows = [
        [
            f"{comparison.series} against {comparison.reference}",
            comparison.name,
            comparison.ratio,
            comparison.crossing,
        ]
        for comparison in efficiency_comparisons(study)
    ]
    if not rows:
        return element("p", "No score was taken of two series, so they cannot be compared.")
    head = ["series", "score", "ratio of exponents γ", "where the second gets as far"]
    return joined(table(head, rows, last_is_prose=True), element("p", RATIO_EXPLANATION, class_="gap"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, last_is_prose: bool = False) -> Markup:
    """A table that scrolls by itself when the page is narrow; the first cell of a row is its heading.

    Args:
        head: titles of the columns.
        rows: cells, one sequence per row.
        last_is_prose: whether the last column is prose, with the style of prose.
    """
    header = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    )
    style = "remarked" if last_is_prose else None
    whole = element("table", element("thead", header), element("tbody", *body), class_=style)
    return element("div", whole, class_="scroll", tabindex=0)


def _score(score: Mapping[str, Any] | None) -> Markup | str:
    if score is None:
        return "–"
    if score["low"] is None:
        return formatting.share(score["accuracy"])
    return _with_note(
        formatting.share(score["accuracy"]), f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
    )


def _with_note(value: str, note: str) -> Markup:
    return joined(value, " ", element("small", note)) if note else joined(value)


def _law_parameters(study: StudyResults, series: str) -> dict[str, Markup]:
    """Every fitted parameter of one series with its interval, by the keys of `_PARAMETERS`."""
    values: dict[str, tuple[float | None, OpenInterval | None]] = {}
    law, repeated, envelope = study.single_epoch(series), study.repeated(series), study.envelope(series)
    if not isinstance(law, Missing):
        split = law.allocation
        values |= {
            name: (value, bounds)
            for (name, value), (_, bounds) in zip(law.params, law.interval95, strict=True)
        }
        values |= {"a": (split.a, split.interval95.a), "b": (split.b, split.interval95.b)}
    for section in (repeated, envelope):
        if not isinstance(section, Missing):
            pairs = zip(section.params, section.interval95, strict=True)
            values |= {name: (value, bounds) for (name, value), (_, bounds) in pairs}
    return {
        name: _with_note(formatting.digits(value), formatting.bounds(bounds))
        for name, (value, bounds) in values.items()
    }


def _score_name(name: str) -> str:
    task = formatting.short_task(name.removesuffix(UNSEEN))
    return f"{task}, {formatting.CONDITIONS['unseen']}" if name.endswith(UNSEEN) else task


def _downstream(fitted: ScoreLaw | Missing) -> list[str]:
    if isinstance(fitted, Missing):
        return ["–", "–", "–", fitted.missing]
    linear = None if isinstance(fitted.linear, Missing) else fitted.linear
    return [
        _with_note(formatting.digits(fitted.gamma), formatting.bounds(fitted.interval95)),
        formatting.digits(linear.slope if linear else None),
        formatting.digits(linear.r2 if linear else None),
        fitted.emergence.message,
    ]


def _law_remarks(study: StudyResults) -> list[Markup]:
    """Remarks on the parameters: the runs used, the checks, and missing laws."""
    remarks = []
    for series in study.series:
        prefix = f"{series}: " if len(study.series) > 1 else ""
        missing = study.missing(series)
        sentences = [
            f"{name} is missing: {missing[part]}"
            for part, name in formatting.PARTS.items()
            if part in missing
        ]
        single_epoch, repeated = study.single_epoch(series), study.repeated(series)
        if not isinstance(single_epoch, Missing) and not single_epoch.converged:
            sentences.append("The single-epoch law did not converge: its parameters are not a result.")
        if not isinstance(repeated, Missing):
            for rate, identified in repeated.identified:
                if not identified:
                    sentences.append(f"{rate} is not identified by these runs: its interval is open.")
        fitted = study.series_law(series)
        if not isinstance(fitted, Missing):
            sentences += [check.message for check in fitted.checks]
        remarks += [element("p", f"{prefix}{sentence}", class_="gap") for sentence in sentences]
        if not isinstance(fitted, Missing):
            remarks.append(_rows_used(prefix, fitted.rows))
    return remarks


def _rows_used(prefix: str, rows: Rows) -> Markup:
    dropped = [element("li", f"{row.run}: {row.reason}") for row in rows.dropped]
    summary = (
        f"{prefix}The single-epoch law is fitted to {rows.used} runs; {len(dropped)} were left out of it."
    )
    return element("details", element("summary", summary), element("ul", *dropped), class_="gap")
