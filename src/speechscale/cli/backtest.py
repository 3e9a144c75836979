"""`speechscale backtest`: how the pooled law of a ladder's cheaper runs forecasts its dearer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def backtest(
    runs: Annotated[Path, typer.Argument(help="Runs table: CSV, TSV or Parquet, one row a run.")],
    split: Annotated[
        list[float] | None,
        typer.Option(help="Fit the runs with C <= C_max/SPLIT; repeat for several.  [default: 3 10 30]"),
    ] = None,
    series: Annotated[list[str] | None, typer.Option(help="Only this series; repeat for several.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV of every forecast run.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Picture of predicted against observed by distance: .svg, .png or .pdf."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Fit the cheaper runs of a table, forecast its dearer runs, and compare.

    The intervals are of a new run, widened by what backtests within the cheaper runs find, as those of `plan` are.

    Example:

        speechscale backtest runs.csv --split 3 --split 10 -o forecasts.csv
    """
    from speechscale.cli.format_backtest import format_backtest
    from speechscale.laws.backtest import FACTORS
    from speechscale.laws.forecast_section import backtest_table, forecast_rows
    from speechscale.records.runs_table import read_table
    from speechscale.records.seal import write_file

    found = backtest_table(read_table(runs), tuple(split or FACTORS), series, seed)
    typer.echo(format_backtest(found))
    if output:
        write_file(output, forecast_rows(found).write_csv())
    if figure:
        from speechscale.report import write_backtest_figure

        write_backtest_figure(forecast_rows(found), figure)
