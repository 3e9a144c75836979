"""`speechscale fit`: scaling laws of a table of runs, written to a law file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fit(
    runs: Annotated[Path, typer.Argument(help="Runs table: CSV, TSV or Parquet, one row a run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Law file to write.")] = Path("law.json"),
    curves: Annotated[Path | None, typer.Option(help="Learning curves, for the envelope.")] = None,
    series: Annotated[list[str] | None, typer.Option(help="Only this series; repeat for several.")] = None,
    laws: Annotated[list[str] | None, typer.Option(help="Only this law; repeat for several.")] = None,
    delta: Annotated[
        float | None, typer.Option(help="Huber's delta on ln L; from the residuals if left out.")
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", help="alpha = beta.")] = False,
    fix: Annotated[list[str] | None, typer.Option(help="Hold a parameter, as in --fix E=1.7.")] = None,
    envelope: Annotated[str, typer.Option(help="budgets, records or interpolated.")] = "budgets",
    scores: Annotated[
        list[str] | None,
        typer.Option(help="Column that is a score though nothing else says so; repeat for several."),
    ] = None,
    chance: Annotated[
        float | None,
        typer.Option(
            help="Score of guessing, where no <score>_chance column and no known benchmark says it."
        ),
    ] = None,
    ceiling: Annotated[
        str, typer.Option(help="Best score possible: the ceiling of the curves is fitted below it.")
    ] = "1",
    law: Annotated[
        str,
        typer.Option(help="What forecasts come from: pooled (four forms) or additive (the published one)."),
    ] = "pooled",
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Descend from all 4,500 published starts.")
    ] = False,
    resampling: Annotated[
        str, typer.Option(help="noise: resample residuals; runs: resample runs.")
    ] = "noise",
    bootstrap: Annotated[int, typer.Option(help="Draws behind every interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Fit scaling laws, with intervals, to a table of runs.

    Columns: params (or N), tokens (D), loss (L); optional run, series, status, unique_tokens, flops (C). Scores in
    [0, 1] or [0, 100] are known benchmarks, columns with <score>_items or <score>_chance beside them, and --scores.

    Example:

        speechscale fit runs.csv -o law.json --bootstrap 4000
    """
    from rich.console import Console

    from speechscale.cli.format_law import format_law
    from speechscale.laws import fit_table
    from speechscale.records.law import write_law
    from speechscale.records.runs_table import read_curves, read_table

    table = read_table(runs, tuple(scores or ()))
    with Console(stderr=True).status("fitting") as status:  # shows nothing where stderr is no terminal
        fitted = fit_table(
            table,
            curves=read_curves(curves) if curves else None,
            series=series,
            laws=laws,
            delta=delta,
            tied=tied,
            fixed=_assignments(fix or []),
            envelope=envelope,
            scores=tuple(scores or ()),
            chance=chance,
            ceiling=None if ceiling == "free" else _number("--ceiling", ceiling),
            law=law,
            exhaustive=exhaustive,
            resampling=resampling,
            bootstrap=bootstrap,
            seed=seed,
            progress=lambda name: status.update(f"fitting {name}"),
        )
    write_law(fitted, output)
    typer.echo(format_law(fitted))
    typer.echo(f"\n{output}")


def _assignments(given: list[str]) -> dict[str, float]:
    return {
        name: _number(f"--fix {name}", value) for name, _, value in (pair.partition("=") for pair in given)
    }


def _number(option: str, text: str) -> float:
    from speechscale.errors import UserError

    try:
        return float(text)
    except ValueError:
        raise UserError(f"{option}: {text!r} is not a number.") from None
