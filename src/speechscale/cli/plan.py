"""`speechscale plan`: the best use of a budget by a law file, or the budget of a goal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
        str | None, typer.Option(help="Goal, as in sblimp=0.8, whose budget is estimated.")
    ] = None,
    unique_tokens: Annotated[
        float | None, typer.Option(help="Unique tokens of the corpus; beyond them, data is repeated.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Model size N, where it is fixed.")] = None,
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
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan as JSON too.")] = None,
) -> None:
    """Plan with a fitted or a published law.

    Examples:

        speechscale plan law.json --flops 1e21 --unique-tokens 11e9 --gpu H100

        speechscale plan law.json --target sblimp=0.8

        speechscale plan --published speech --flops 1e21

        speechscale plan law.json --next 4 --flops 2e18
    """
    from speechscale.cli.format_plan import format_further_runs, format_plan
    from speechscale.errors import UserError
    from speechscale.laws.draws import LawDraws
    from speechscale.plan import Constraints, parse_score_target, plan_budget, plan_next, plan_target
    from speechscale.records.law import read_law
    from speechscale.records.plan import write_plan

    if law is not None and published is None:
        drawn = LawDraws.from_file(read_law(law), series)
    elif law is None and published is not None:
        drawn = LawDraws.from_publication(published)
    else:
        raise UserError("give one law: a law file, or --published speech, speech-unigram or text.")
    if (flops is None) == (target is None):
        raise UserError("give one question: --flops 1e21 (a budget) or --target score=0.8 (a goal).")
    limits = Constraints(unique_tokens, params, gpu, mfu, price, tokens_per_second)
    if next_runs is not None:
        if flops is None:
            raise UserError("--next needs --flops, the budget of all further runs together.")
        runs = plan_next(drawn, next_runs, flops, forecast_flops)
        typer.echo(format_further_runs(runs))
        if output:
            write_plan(runs, output)
        return
    found = (
        plan_target(drawn, *parse_score_target(target), limits)
        if target
        else plan_budget(drawn, flops or 0.0, limits)
    )
    typer.echo(format_plan(found))
    if output:
        write_plan(found, output)
