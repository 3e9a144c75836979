"""The picture of a backtest: observed over predicted loss by how far the run is beyond the fitted ones."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import polars as pl

from speechscale.errors import UserError
from speechscale.records.seal import write_file
from speechscale.report import formatting
from speechscale.report.figures import FORMATS, Figure, figure_specification, render
from speechscale.report.theme import NEUTRAL_COLOUR, REFERENCE_COLOUR, log_axis


def write_backtest_figure(forecasts: pl.DataFrame, path: Path) -> None:
    """Write the picture of the forecasts of a backtest.

    Args:
        forecasts: rows of `laws.forecast_section.forecast_rows`.
        path: a file that ends in .svg, .png or .pdf.

    Raises:
        UserError: another ending, no forecasts, or a file that cannot be written.
    """
    kind = path.suffix.lstrip(".")
    if kind not in FORMATS:
        raise UserError(f"{path}: a picture is written as {formatting.listed(FORMATS)}.")
    if forecasts.is_empty():
        raise UserError(f"{path}: no run was forecast, so there is nothing to draw.")
    panels = tuple(
        backtest_chart(rows).properties(
            title=f"{rows['series'][0]}: fitted to C <= C_max/{rows['split'][0]:g}"
        )
        for rows in forecasts.partition_by("series", "split", maintain_order=True)
    )
    figure = Figure("backtest", "Backtest", "", panels)
    write_file(path, render(figure_specification(figure), kind))


def backtest_chart(forecasts: pl.DataFrame) -> alt.LayerChart:
    """Loss less forecast, in per cent of the forecast, with the 95 % interval of a new run, by distance."""
    rows = forecasts.with_columns(
        *(
            (100 * (pl.col(name) / pl.col("forecast") - 1)).alias(f"{name}_error")
            for name in ("loss", "low", "high")
        )
    )
    x = alt.X(
        "distance:Q",
        **log_axis(
            rows["distance"].to_list(), "compute over that of the dearest fitted run", formatting.tick
        ),
    )
    y = alt.Y("loss_error:Q", title="observed against forecast loss (%)")
    base = alt.Chart(rows).encode(x=x)
    zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=REFERENCE_COLOUR).encode(y="zero:Q")
    intervals = base.mark_rule(color=NEUTRAL_COLOUR, opacity=0.35, strokeWidth=2).encode(
        y=alt.Y("low_error:Q", title="observed against forecast loss (%)"), y2="high_error:Q"
    )
    points = base.mark_point(color=NEUTRAL_COLOUR, size=40, filled=True, opacity=1).encode(
        y=y, tooltip=["run:N", alt.Tooltip("loss:Q", format=".4f"), alt.Tooltip("forecast:Q", format=".4f")]
    )
    return alt.LayerChart(layer=[zero, intervals, points]).properties(height=300)
