"""`speechscale plan`: the best use of a budget by a law file, or the budget of a goal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from speechscale.laws.draws import LawDraws


def plan(
    law: Annotated[Path | None, typer.Argument(help="Law file of `speechscale fit`.")] = None,
    published: Annotated[
        str | None, typer.Option(help="speech, speech-unigram or text, instead of a file.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series of the law file.")] = None,
    flops: Annotated[
        float | None, typer.Option(help="Budget in FLOPs; with --next, of all further runs.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Goal, as in sblimp=0.8 or loss=2.1, whose budget is estimated.")
    ] = None,
    unique_tokens: Annotated[
        float | None, typer.Option(help="Unique tokens of the corpus; beyond them, data is repeated.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Model size N, where it is fixed.")] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Tokens D: with --params, forecast one run in place of a plan.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Table of params and tokens: forecast these runs, to -o as CSV.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU, such as A100, whose hours are estimated.")] = None,
    mfu: Annotated[float, typer.Option(help="Model FLOPs utilisation of the GPU.")] = 0.4,
    price: Annotated[float | None, typer.Option(help="Price of one GPU hour.")] = None,
    tokens_per_second: Annotated[float | None, typer.Option(help="Tokens per second of audio.")] = None,
    next_runs: Annotated[
        int | None,
        typer.Option("--next", help="Choose the K further runs that reduce the error of a forecast most."),
    ] = None,
    forecast_flops: Annotated[
        float | None,
        typer.Option(help="With --next: budget of the forecast; 10 x the largest run if left out."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the plan as JSON too; with --runs, the table."),
    ] = None,
) -> None:
    """Plan with a fitted or a published law.

    Examples:

        speechscale plan law.json --flops 1e21 --unique-tokens 11e9 --gpu H100

        speechscale plan law.json --target sblimp=0.8

        speechscale plan law.json --params 1e9 --tokens 2e10

        speechscale plan law.json --runs design.csv -o forecasts.csv

        speechscale plan --published speech --flops 1e21

        speechscale plan law.json --next 4 --flops 2e18
    """
    from speechscale.cli.format_plan import format_further_runs, format_plan
    from speechscale.errors import UserError
    from speechscale.laws.draws import LawDraws
    from speechscale.plan import (
        Constraints,
        plan_budget,
        plan_next,
        plan_run,
        plan_target,
    )
    from speechscale.records.law import read_law
    from speechscale.records.plan import write_plan

    if law is not None and published is None:
        drawn = LawDraws.from_file(read_law(law), series)
    elif law is None and published is not None:
        drawn = LawDraws.from_publication(published)
    else:
        raise UserError("give one law: a law file, or --published speech, speech-unigram or text.")
    if runs is not None:
        _write_forecasts(drawn, runs, output)
        return
    questions = {"--flops 1e21": flops, "--target score=0.8": target, "--params 1e9 --tokens 2e10": tokens}
    if sum(value is not None for value in questions.values()) != 1:
        raise UserError(f"give one question: {', or '.join(questions)}, or --runs design.csv.")
    limits = Constraints(unique_tokens, params, gpu, mfu, price, tokens_per_second)
    if next_runs is not None:
        if flops is None:
            raise UserError("--next needs --flops, the budget of all further runs together.")
        further = plan_next(drawn, next_runs, flops, forecast_flops)
        typer.echo(format_further_runs(further))
        if output:
            write_plan(further, output)
        return
    if tokens is not None:
        if params is None:
            raise UserError("--tokens needs --params, the size of the run.")
        found = plan_run(drawn, params, tokens, limits)
    elif target is not None:
        found = plan_target(drawn, *parse_score_target(target), limits)
    else:
        found = plan_budget(drawn, flops or 0.0, limits)
    typer.echo(format_plan(found))
    if output:
        write_plan(found, output)


def _write_forecasts(law: LawDraws, runs: Path, output: Path | None) -> None:
    """Forecast the runs of a table, to a CSV file or to the terminal."""
    from speechscale.laws.forecasts import forecast_runs
    from speechscale.records.runs_table import read_design
    from speechscale.records.seal import write_file

    table = forecast_runs(law, read_design(runs)).write_csv()
    if output is None:
        typer.echo(table.rstrip())
    else:
        write_file(output, table)
        typer.echo(f"{output}")


def parse_score_target(text: str) -> tuple[str, float]:
    """Score and value, ("sblimp", 0.8), of "sblimp=0.8"; "loss=2.1" is a loss.

    Raises:
        UserError: not of this form, or a score above 1.
    """
    from speechscale.errors import UserError
    from speechscale.plan import LOSS

    score, _, number = text.partition("=")
    score = score.strip()
    try:
        value = float(number)
    except ValueError:
        raise UserError(
            f"--target {text!r}: a score and a number are wanted, as in sblimp=0.8 or loss=2.1."
        ) from None
    if score != LOSS and value > 1:
        raise UserError(f"--target {text!r}: a score is a fraction; {value:g} % is {score}={value / 100:g}.")
    return score, value
