"""`speechscale eval text`: scores of a text language model on written benchmarks, and a row of a runs table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import Bos, Given, ModelPrecision, Nll, Preset, Terminal, Ties


def text(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a Hugging Face model, or its hub id: owner/name@revision (@main for the latest)."
        ),
    ],
    benchmark: Annotated[
        list[str],
        typer.Option(
            help="Task and its texts, task=path: JSON Lines of BLiMP (a file or the folder), a StoryCloze CSV, or a "
            "gold file of ZeroSpeech 2021. Use the task name of the speech side, so that the two are compared."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for scores.parquet, scores.json and record.json.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="Runs table (CSV, TSV, Parquet) that gets a row of the series 'text'; made where it is missing."
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens seen in training; known for Pythia revisions.")
    ] = None,
    preset: Preset = "official",
    nll: Nll = None,
    bos: Bos = None,
    terminal: Terminal = None,
    ties: Ties = None,
    given: Given = None,
    precision: ModelPrecision = "auto",
) -> None:
    r"""Score a text model on the written versions of the spoken benchmarks, by the same conventions.

    N is counted from the model, without embeddings. An existing row of the model is replaced.

    Example:
        speechscale eval text EleutherAI/pythia-70m@step3000 --benchmark sblimp=blimp/data \
            --benchmark sstorycloze=sstorycloze.csv -o text/pythia-70m-step3000 --table runs.csv
    """
    from speechscale.cli.format_scores import evaluation_lines
    from speechscale.jobs.evaluate_text import TextEvaluationRequest, run_text_evaluation
    from speechscale.workers.progress import spinner

    request = TextEvaluationRequest(
        model=model,
        benchmarks=benchmark,
        out=out,
        preset=preset,
        switches={"nll": nll, "bos": bos, "terminal": terminal, "ties": ties, "given": given},
        table=table,
        tokens=tokens,
        precision=precision,
    )
    with spinner("scoring"):
        evaluation = run_text_evaluation(request)
    for line in evaluation_lines(evaluation):
        typer.echo(line)
