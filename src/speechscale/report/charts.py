"""Altair charts of the figures: pure functions of tables, for the page and for exported files.

Colour is model size. A filled circle was measured on data seen once or in a training voice, a hollow diamond
on repeated data or in new voices. Fitted laws are lines; references are grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from speechscale.records.runs_table import is_single_epoch
from speechscale.report import formatting
from speechscale.report.theme import (
    FIT_COLOUR,
    NEUTRAL_COLOUR,
    REFERENCE_COLOUR,
    VegaSpec,
    log_axis,
    series_colours,
    share_axis,
    size_scale,
)

_COMPUTE = "compute, 6ND (FLOPs)"
_LOSS = "test loss (nats/token)"
_BITS = "test loss (bits per second of audio)"
_PANEL_HEIGHT = 340
_FACET_HEIGHT = 240
_ROW_HEIGHT = 26
_CATEGORIES = {"data": ("seen once", "repeated"), "voices": tuple(formatting.CONDITIONS.values())}
_LAWS = ("single epoch", "repeated data")


def loss_against_compute(
    runs: pl.DataFrame, curves: pl.DataFrame, least: pl.DataFrame, sizes: Sequence[float]
) -> alt.LayerChart:
    """Learning curves, their ends, and the least loss reached within each compute, on log axes.

    Args:
        runs: finished runs of one series.
        curves: readings of the test loss during these runs.
        least: `flops` and `loss` of the points below all cheaper ones.
        sizes: every N of the study, so that colours agree between figures.
    """
    x = alt.X("flops:Q", **log_axis([*runs["flops"], *curves["flops"]], _COMPUTE, formatting.power))
    y = alt.Y("loss:Q", **log_axis([*runs["loss"], *curves["loss"]], _LOSS, formatting.tick))
    hover = _highlight()
    base = _size_lines(_with_formatted_sizes(curves).select("run", "size", "flops", "loss"), x, y, sizes)
    lines = base.mark_line(strokeWidth=1.1, clip=True).encode(
        detail="run:N", opacity=alt.condition(hover, alt.value(0.55), alt.value(0.08))
    )
    steps = (
        alt.Chart(least)
        .mark_line(color=FIT_COLOUR, strokeWidth=2, strokeDash=[7, 4], interpolate="step-after", clip=True)
        .encode(x=x, y=y)
    )
    return alt.LayerChart(layer=[lines, steps, _run_points(runs, x, y, sizes, hover)]).properties(
        height=_PANEL_HEIGHT
    )


def loss_against_tokens(
    runs: pl.DataFrame, predicted: pl.DataFrame, unique_tokens: float | None, sizes: Sequence[float]
) -> alt.LayerChart:
    """Final losses against D, with a line of the fitted law for every size.

    Args:
        runs: finished runs of one series.
        predicted: `law` ("single epoch" or "repeated data"), `params`, `tokens`, `loss`; may be empty.
        unique_tokens: where the data begin to repeat, marked by a vertical line.
        sizes: every N of the study.
    """
    tokens, losses = [*runs["tokens"], *predicted["tokens"]], [*runs["loss"], *predicted["loss"]]
    x = alt.X("tokens:Q", **log_axis(tokens, "D, tokens seen", formatting.quantity_tick))
    y = alt.Y("loss:Q", **log_axis(losses, _LOSS, formatting.tick))
    hover = _highlight()
    base = _size_lines(_with_formatted_sizes(predicted).select("law", "size", "tokens", "loss"), x, y, sizes)
    law = base.mark_line(strokeWidth=1.6, clip=True).encode(
        strokeDash=alt.StrokeDash("law:N", scale=alt.Scale(domain=list(_LAWS), range=[[1, 0], [2, 3]])),
        opacity=alt.condition(hover, alt.value(0.8), alt.value(0.08)),
    )
    unique = [unique_tokens] if unique_tokens else []
    rule = (
        alt.Chart(pl.DataFrame({"tokens": unique}, schema={"tokens": pl.Float64}))
        .mark_rule(color=REFERENCE_COLOUR, strokeDash=[2, 3], clip=True)
        .encode(x=x)
    )
    return alt.LayerChart(layer=[rule, law, _run_points(runs, x, y, sizes, hover)]).properties(
        height=_PANEL_HEIGHT
    )


def score_against_compute(
    scores: pl.DataFrame, shared: pl.DataFrame, fitted: pl.DataFrame, sizes: Sequence[float]
) -> alt.LayerChart:
    """Accuracy of one task against compute, in both speaker conditions.

    Args:
        scores: the rows of one task.
        shared: the rows of all tasks of the figure, from which the facets take their common axes.
        fitted: `flops` and `accuracy` along the fitted law of this task; empty when there is none.
        sizes: every N of the study.
    """
    x = alt.X("flops:Q", **log_axis(shared["flops"].to_list(), _COMPUTE, formatting.power))
    return _score_facet(scores, x, _accuracy_axis(shared), sizes, fitted)


def score_against_loss(
    scores: pl.DataFrame, shared: pl.DataFrame, fitted: pl.DataFrame, sizes: Sequence[float]
) -> alt.LayerChart:
    """Accuracy of one task against test loss, better models to the right.

    Args:
        scores: the rows of one task.
        shared: the rows of all tasks of the figure.
        fitted: `loss` and `accuracy` along the fitted law of this task; empty when there is none.
        sizes: every N of the study.
    """
    axis = log_axis(shared["loss"].to_list(), f"{_LOSS}, falling", formatting.tick)
    axis["scale"].reverse = True
    return _score_facet(scores, alt.X("loss:Q", **axis), _accuracy_axis(shared), sizes, fitted)


def series_bits_against_compute(
    runs: pl.DataFrame, least: pl.DataFrame, names: Sequence[str]
) -> alt.LayerChart:
    """Bits per second of audio against compute for several series, on log axes.

    Args:
        runs: finished runs of all series, with `bits_per_second`.
        least: `series`, `flops`, `bits_per_second`: the least that each series reached for the compute.
        names: the series, in their order.
    """
    x = alt.X("flops:Q", **log_axis(runs["flops"].to_list(), _COMPUTE, formatting.power))
    y = alt.Y("bits_per_second:Q", **log_axis(runs["bits_per_second"].to_list(), _BITS, formatting.tick))
    line = alt.Chart(least).mark_line(strokeWidth=1.6, clip=True)
    points = alt.Chart(
        _with_formatted_sizes(runs).select("run", "series", "size", "seen", "flops", "bits_per_second")
    )
    tooltip = [*_SERIES_TOOLTIP, alt.Tooltip("bits_per_second:Q", format=".2f", title="bits/s")]
    return alt.LayerChart(
        layer=[
            line.encode(x=x, y=y, stroke=_series(alt.Stroke, names)),
            points.mark_point(size=46, strokeWidth=1.6).encode(
                x=x, y=y, stroke=_series(alt.Stroke, names), tooltip=tooltip
            ),
        ]
    ).properties(height=_PANEL_HEIGHT)


def series_scores_against_compute(
    scores: pl.DataFrame, shared: pl.DataFrame, fitted: pl.DataFrame, names: Sequence[str]
) -> alt.LayerChart:
    """Accuracy of one task, series against series.

    Args:
        scores: the rows of one task and condition.
        shared: the rows of all facets, from which they take their common axes.
        fitted: `series`, `flops`, `accuracy` along the laws; may be empty.
        names: the series, in their order.
    """
    x = alt.X("flops:Q", **log_axis(shared["flops"].to_list(), _COMPUTE, formatting.power))
    y = _accuracy_axis(shared)
    rows = _with_formatted_sizes(scores).with_columns(
        pl.Series("interval", [_interval(row) for row in scores.iter_rows(named=True)], pl.String)
    )
    base = alt.Chart(rows.drop("params", "tokens", "task")).encode(x=x, stroke=_series(alt.Stroke, names))
    layers = [
        _chance(rows, lambda field: {"y": alt.Y(field, **y)}),
        alt.Chart(fitted)
        .mark_line(strokeWidth=1.6, strokeDash=[7, 4], clip=True)
        .encode(x=x, y=alt.Y("accuracy:Q", **y), stroke=_series(alt.Stroke, names)),
        base.mark_rule(opacity=0.4, strokeWidth=1.2).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_point(size=40, strokeWidth=1.6, opacity=1).encode(
            y=alt.Y("accuracy:Q", **y),
            tooltip=[
                *_SERIES_TOOLTIP,
                alt.Tooltip("accuracy:Q", format=".1%"),
                alt.Tooltip("interval:N", title="95 %"),
            ],
        ),
    ]
    return alt.LayerChart(layer=layers).properties(height=_FACET_HEIGHT)


def phenomena(scores: pl.DataFrame) -> alt.LayerChart:
    """Every phenomenon of the minimal pairs at one run: a dot with its interval, against chance."""
    rows = _with_labels(scores)
    order = rows.sort("voices", "accuracy", descending=True)["name"].unique(maintain_order=True).to_list()
    y = alt.Y(
        "name:N", sort=order, title=None, axis=alt.Axis(labelLimit=230, ticks=False, domain=False, grid=True)
    )
    axis = share_axis(_extent(rows), "accuracy, with 95 % interval")
    layers = [_chance(rows, lambda field: {"x": alt.X(field, **axis)})]
    for voices, offset in zip(_CATEGORIES["voices"], (-4, 4), strict=True):
        base = alt.Chart(rows.filter(pl.col("voices") == voices)).encode(y=y)
        layers.append(
            base.mark_rule(color=NEUTRAL_COLOUR, opacity=0.5, strokeWidth=1.6, yOffset=offset).encode(
                x=alt.X("low:Q", **axis), x2="high:Q"
            )
        )
        layers.append(
            base.mark_point(
                color=NEUTRAL_COLOUR, fill=NEUTRAL_COLOUR, size=50, opacity=1, yOffset=offset
            ).encode(x=alt.X("accuracy:Q", **axis), **_shape_and_fill("voices"), tooltip=_SCORE_TOOLTIP)
        )
    return alt.LayerChart(layer=[*layers]).properties(height=alt.Step(_ROW_HEIGHT))


def time_by_stage(stages: pl.DataFrame) -> alt.LayerChart:
    """How long each stage took, in the order in which they ran."""
    stages = stages.with_columns(
        pl.Series("time", [formatting.duration(spent) for spent in stages["seconds"]], pl.String)
    )
    longest = max(stages["seconds"].to_list(), default=0.0)
    base = alt.Chart(stages).encode(
        # The margin on the right is for the text behind the longest bar.
        x=alt.X("seconds:Q", axis=None, scale=alt.Scale(domain=[0, 1.3 * longest or 1], nice=False)),
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)),
        tooltip=["name:N", "time:N", "detail:N"],
    )
    bars = base.mark_bar(color=NEUTRAL_COLOUR, cornerRadiusEnd=2, height={"band": 0.6})
    labels = base.mark_text(align="left", dx=6).encode(text="time:N")
    return alt.LayerChart(layer=[bars, labels]).properties(height=alt.Step(_ROW_HEIGHT))


_RUN_TOOLTIP = [
    "run:N",
    alt.Tooltip("size:N", title="N"),
    alt.Tooltip("seen:N", title="D"),
    alt.Tooltip("epochs:Q", format=".3~g"),
    alt.Tooltip("compute:N", title="6ND"),
    alt.Tooltip("loss:Q", format=".4f", title="loss"),
]
_SCORE_TOOLTIP = [
    *_RUN_TOOLTIP,
    "voices:N",
    alt.Tooltip("accuracy:Q", format=".1%"),
    alt.Tooltip("interval:N", title="95 %"),
    alt.Tooltip("items:Q"),
    alt.Tooltip("effective_items:Q", title="effective items", format=".0f"),
]


_SERIES_TOOLTIP = [
    "series:N",
    "run:N",
    alt.Tooltip("size:N", title="N"),
    alt.Tooltip("seen:N", title="D"),
]


def _series(channel: type[Any], names: Sequence[str]) -> Any:
    """The colour of a series."""
    colours = series_colours(names)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return channel("series:N", scale=scale, sort=None, title=None)


def _highlight() -> alt.Parameter:
    """Pointing at a run dims the runs of every other size."""
    return alt.selection_point(fields=["size"], on="pointerover", clear="pointerout")


def _size_lines(table: pl.DataFrame, x: alt.X, y: alt.Y, sizes: Sequence[float]) -> alt.Chart:
    """The base of lines coloured by model size; the caller chooses the mark."""
    base: alt.Chart = alt.Chart(table).encode(x=x, y=y, stroke=_size(alt.Stroke, sizes))
    return base


def _run_points(
    runs: pl.DataFrame, x: alt.X, y: alt.Y, sizes: Sequence[float], hover: alt.Parameter
) -> alt.Chart:
    single_epoch, repeated = _CATEGORIES["data"]
    data = pl.when(is_single_epoch()).then(pl.lit(single_epoch)).otherwise(pl.lit(repeated))
    rows = _with_formatted_sizes(runs).with_columns(data.alias("data"))
    points: alt.Chart = (
        alt.Chart(rows.select("run", "size", "seen", "epochs", "compute", "tokens", "flops", "loss", "data"))
        .mark_point(size=52, strokeWidth=1.6)
        .encode(
            x=x,
            y=y,
            stroke=_size(alt.Stroke, sizes),
            fill=_size(alt.Fill, sizes),
            **_shape_and_fill("data"),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.15)),
            tooltip=_RUN_TOOLTIP,
        )
        .add_params(hover)
    )
    return points


def _score_facet(
    scores: pl.DataFrame, x: alt.X, y: VegaSpec, sizes: Sequence[float], fitted: pl.DataFrame
) -> alt.LayerChart:
    rows = _with_labels(scores)
    law = alt.Chart(fitted).mark_line(color=FIT_COLOUR, strokeWidth=1.8, strokeDash=[7, 4], clip=True)
    layers = [
        _chance(rows, lambda field: {"y": alt.Y(field, **y)}),
        law.encode(x=x, y=alt.Y("accuracy:Q", **y)),
    ]
    # Both conditions share x exactly; they are drawn side by side so that both intervals can be seen.
    for voices, offset in zip(_CATEGORIES["voices"], (-3, 3), strict=True):
        base = alt.Chart(rows.filter(pl.col("voices") == voices)).encode(x=x, stroke=_size(alt.Stroke, sizes))
        layers.append(
            base.mark_rule(opacity=0.45, strokeWidth=1.2, xOffset=offset).encode(
                y=alt.Y("low:Q", **y), y2="high:Q"
            )
        )
        layers.append(
            base.mark_point(size=40, strokeWidth=1.5, opacity=1, xOffset=offset).encode(
                y=alt.Y("accuracy:Q", **y),
                fill=_size(alt.Fill, sizes),
                **_shape_and_fill("voices"),
                tooltip=_SCORE_TOOLTIP,
            )
        )
    title = formatting.task(scores["task"][0])
    return alt.LayerChart(layer=[*layers]).properties(height=_FACET_HEIGHT, title=title)


def _chance(rows: pl.DataFrame, channel: Any) -> alt.Chart | alt.LayerChart:
    """A line at chance, and the widest band of untrained models where some run has one."""
    chance = alt.Chart(rows.select("chance").drop_nulls().unique())
    rule: alt.Chart = chance.mark_rule(color=REFERENCE_COLOUR, strokeDash=[4, 4], strokeWidth=1.4).encode(
        **channel("chance:Q")
    )
    band = rows.select(pl.col("null_low").min(), pl.col("null_high").max()).drop_nulls()
    if band.is_empty():
        return rule
    ((axis, low),) = channel("null_low:Q").items()
    rect = alt.Chart(band).mark_rect(color=REFERENCE_COLOUR, opacity=0.12)
    return alt.LayerChart(layer=[rect.encode(**{axis: low, f"{axis}2": "null_high:Q"}), rule])


def _shape_and_fill(field: str) -> VegaSpec:
    """Circle and filled for the first value of a field, diamond and hollow for the second."""
    values = list(_CATEGORIES[field])
    shape = alt.Scale(domain=values, range=["circle", "diamond"])
    filling = alt.Scale(domain=values, range=[1, 0])
    return {
        "shape": alt.Shape(f"{field}:N", sort=values, scale=shape),
        "fillOpacity": alt.FillOpacity(f"{field}:N", sort=values, scale=filling),
    }


def _size(channel: type[Any], sizes: Sequence[float]) -> Any:
    """The colour of a model size, on the stroke or the fill of a mark."""
    return channel("size:N", scale=size_scale(sizes), sort=None, title="N")


def _accuracy_axis(rows: pl.DataFrame) -> VegaSpec:
    return share_axis(_extent(rows), "accuracy")


def _extent(rows: pl.DataFrame) -> list[float]:
    """Everything that an accuracy axis has to show."""
    columns = (rows["accuracy"], rows["low"], rows["high"], rows["chance"])
    return [value for column in columns for value in column.drop_nulls()]


def _with_formatted_sizes(table: pl.DataFrame) -> pl.DataFrame:
    """The table with N, D and compute as text, for colours and tooltips."""
    formats = {
        "size": ("params", formatting.quantity),
        "seen": ("tokens", formatting.quantity),
        "compute": ("flops", formatting.power),
    }
    return table.with_columns(
        pl.Series(name, [format_value(value) for value in table[column]], pl.String)
        for name, (column, format_value) in formats.items()
        if column in table.columns
    )


def _with_labels(scores: pl.DataFrame) -> pl.DataFrame:
    """Score rows with the labels of their figures and tooltips."""
    return (
        _with_formatted_sizes(scores)
        .with_columns(
            pl.Series("name", [formatting.task(task) for task in scores["task"]], pl.String),
            pl.Series(
                "voices", [formatting.CONDITIONS[condition] for condition in scores["condition"]], pl.String
            ),
            pl.Series("interval", [_interval(row) for row in scores.iter_rows(named=True)], pl.String),
        )
        .drop("series", "params", "tokens", "task", "condition")
    )


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return "unknown"
    return f"{formatting.share(row['low'])} to {formatting.share(row['high'])}"
