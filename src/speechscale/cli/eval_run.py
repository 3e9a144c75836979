"""`speechscale eval run`: zero-shot scores of a model on labelled shards, with intervals, by a named convention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from speechscale.cli.options import Bos, Given, Model, ModelPrecision, Nll, Preset, Terminal, Ties, UnitOffset


def run(
    model: Model,
    benchmarks: Annotated[
        list[Path],
        typer.Option(help="Folder of labelled shards (made by `eval prepare`); may be given several times."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for scores.parquet and scores.json.  [default: the run's own]"
        ),
    ] = None,
    preset: Preset = "official",
    nll: Nll = None,
    bos: Bos = None,
    terminal: Terminal = None,
    ties: Ties = None,
    given: Given = None,
    voices: Annotated[
        Literal["mean", "pairs"] | None,
        typer.Option(help="Average the voices of an item first, or count all pairs alike."),
    ] = None,
    unit_offset: UnitOffset = None,
    precision: ModelPrecision = "auto",
    compare: Annotated[
        Path | None, typer.Option(help="scores.parquet of another model, for paired differences.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also print published scores, each with its convention.")
    ] = False,
    submission: Annotated[
        Path | None, typer.Option(help="ZeroSpeech 2021 submission folder to write; must not exist.")
    ] = None,
    null: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Also score K untrained models of the same shape, and show the band of their scores (2 or more).",
        ),
    ] = None,
) -> None:
    """Score a model on labelled shards: per-item scores, and accuracies with intervals over items.

    Presets. official (the study): mean NLL after EOS, closing EOS not scored, ties half (StoryCloze: lost), voices
    averaged, mean over phenomena. zerospeech: summed NLL, ties half, voices averaged, mean over items. slamkit: mean
    NLL of `<S> ... <S>` with the closing token scored, ties half, mean over pairs. Where a task has phenomena, the
    means over phenomena and over items are both shown.

    Scores of other tasks in the folder are kept; they must be of the same model and convention. Tasks scored again are
    replaced. Only the official preset updates the record.json of a run.

    --given prompt scores endings alone. Where the label of a pair does not give the length of its prompt, the prompt is
    what both members begin with; at least one unit is left for each ending. A pair whose label says 0 has no prompt.

    An utterance longer than the context is read in windows of one context. Each unit is counted once, and every window
    but the first starts half a context before the first unit that it counts.

    --null K scores K random initialisations of the same shape, writes the bands within which 95 % of such models score
    to null.json beside the scores, and prints them. A score inside its band shows no learning.

    Examples:
        speechscale eval run one-run --benchmarks work/nano/units/benchmarks

        speechscale eval run one-run --benchmarks sblimp/units --benchmarks ssc/units --benchmarks tsc/units

        speechscale eval run owner/name@0123abc --unit-offset 2 --benchmarks sblimp/units -o scored --preset slamkit
    """
    from speechscale.cli.format_scores import comparison_lines, evaluation_lines, published_lines
    from speechscale.jobs.evaluate import EvaluationRequest, run_evaluation
    from speechscale.workers.progress import spinner

    request = EvaluationRequest(
        model=model,
        benchmarks=benchmarks,
        out=out,
        preset=preset,
        switches={
            "nll": nll,
            "bos": bos,
            "terminal": terminal,
            "ties": ties,
            "given": given,
            "voices": voices,
        },
        unit_offset=unit_offset,
        precision=precision,
        compare=compare,
        published=published,
        submission=submission,
        null=null,
    )
    with spinner("scoring"):
        report = run_evaluation(request)
    lines = [*evaluation_lines(report.evaluation, report.null)]
    if report.comparison is not None:
        lines += comparison_lines(report.evaluation, report.comparison)
    if report.published is not None:
        lines += published_lines(report.published)
    if report.submission_gaps is not None:
        without = f"; without {', '.join(report.submission_gaps)}" if report.submission_gaps else ""
        lines.append(f"\n{submission}: complete meta.yaml before you submit{without}.")
    for line in lines:
        typer.echo(line)
