"""`speechscale eval text`: a text language model and written benchmarks in, scores and a row of the runs table out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.eval_run import Bos, Given, Nll, Precision, Preset, Terminal, Ties, tell


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
            help="Task and its texts, task=path: JSON Lines of BLiMP (a file or the folder), a StoryCloze CSV, a gold "
            "file of ZeroSpeech 2021. Call the task as speech calls it, so that the two are compared."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for scores.parquet, scores.json and record.json.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            help="Runs table (CSV, TSV, Parquet) that gets a row of the series 'text', or is begun."
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens seen in training; of Pythia the revision says it.")
    ] = None,
    preset: Preset = "official",
    nll: Nll = None,
    bos: Bos = None,
    terminal: Terminal = None,
    ties: Ties = None,
    given: Given = None,
    precision: Precision = "auto",
) -> None:
    """Score a text model on the written twins of the spoken benchmarks, by the same rules.

    N is counted from the model, without embeddings. A row that is there already for the model is replaced.

    Example:

        speechscale eval text EleutherAI/pythia-70m@step3000 --benchmark sblimp=blimp/data \\
            --benchmark sstorycloze=sstorycloze.csv -o text/pythia-70m-step3000 --table runs.csv
    """
    from speechscale.evals.conventions import convention
    from speechscale.jobs.evaluate_text import benchmarks_named, model_named, score_text
    from speechscale.workers.progress import spinner

    by = convention(preset, nll=nll, bos=bos, terminal=terminal, ties=ties, given=given)
    asked = benchmarks_named(benchmark)
    with spinner("scoring"):
        found, _ = score_text(model_named(model, tokens), asked, out, by, table=table, precision=precision)
    tell(found)
