"""`speechscale simulate`: bias and coverage of the laws fitted to a ladder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    law: Annotated[
        str, typer.Option(help="The truth: a law file, or speech, speech-unigram or text.")
    ] = "speech",
    series: Annotated[str | None, typer.Option(help="Which series of the law file.")] = None,
    design: Annotated[
        str, typer.Option(help="The runs: a table with params and tokens, or paper for the study's 40.")
    ] = "paper",
    noise: Annotated[float, typer.Option(help="Standard deviation of ln loss between equal runs.")] = 0.003,
    ladders: Annotated[int, typer.Option(help="How many ladders to draw.")] = 100,
    bootstrap: Annotated[int, typer.Option(help="Draws behind the intervals of each.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of noise and draws.")] = 0,
) -> None:
    """Draw ladders from a law, fit each, and report bias, spread and the coverage of 95 % intervals.

    The design needs no losses, so a ladder can be judged before it is trained; every run counts as one of one epoch.

    Example:

        speechscale simulate --law speech --design runs.csv --noise 0.003
    """
    from rich.console import Console
    from rich.progress import Progress

    from speechscale.laws.draws import LawDraws
    from speechscale.laws.published_laws import PUBLISHED_LAWS
    from speechscale.laws.simulate import DrawOptions, Noise, paper_design
    from speechscale.laws.simulate import simulate as simulate_ladders
    from speechscale.records.law import read_law
    from speechscale.records.runs_table import read_design

    drawn = (
        LawDraws.from_publication(law)
        if law in PUBLISHED_LAWS
        else LawDraws.from_file(read_law(Path(law)), series)
    )
    if design == "paper":
        params, tokens = paper_design()
    else:
        table = read_design(Path(design))
        params, tokens = table["params"].to_numpy(), table["tokens"].to_numpy()
    with Progress(console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("ladders", total=ladders)
        found = simulate_ladders(
            drawn.theta[0, :7],
            params,
            tokens,
            noise=Noise(noise),
            ladders=ladders,
            draws=DrawOptions(bootstrap, seed),
            progress=lambda: bar.advance(task),
        )
    typer.echo(f"{ladders} ladders of {len(params)} runs from the law of {drawn.name}, noise {noise:.2%}")
    typer.echo(f"  {'':<10}{'truth':>10}{'bias':>12}{'spread':>12}{'coverage':>14}")
    for name, outcome in found.items():
        typer.echo(
            f"  {name:<10}{outcome.truth:>10.4g}{outcome.bias:>+12.2g}{outcome.spread:>12.2g}{outcome.coverage:>14.1%}"
        )
