"""`speechscale eval run`: a model and labelled shards in, scores with intervals out, by a convention that is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import polars as pl

    from speechscale.evals.conventions import Convention
    from speechscale.jobs.evaluate import Evaluation
    from speechscale.records.runs import Score

Model = Annotated[
    str,
    typer.Argument(
        help="A run's folder or safetensors, the study's release, or a causal LM of Hugging Face over units: a "
        "folder, or owner/name@revision."
    ),
]
UnitOffset = Annotated[
    int | None,
    typer.Option(min=0, help="Token of unit 0, for a Hugging Face model whose config.json has no `offset`."),
]
Precision = Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the matrix products.")]
# The switches of a convention.
Preset = Annotated[
    Literal["official", "zerospeech", "slamkit"], typer.Option(help="Convention; see `eval run --help`.")
]
Nll = Annotated[Literal["mean", "sum"] | None, typer.Option(help="Over the tokens scored.")]
Bos = Annotated[
    bool | None,
    typer.Option("--bos/--no-bos", help="A token before the first; without, it is not scored."),
]
Terminal = Annotated[bool | None, typer.Option("--terminal/--no-terminal", help="Score the closing token.")]
Ties = Annotated[
    Literal["half", "lost", "by-task"] | None, typer.Option(help="by-task: half; in StoryCloze lost.")
]
Given = Annotated[
    Literal["nothing", "prompt"] | None,
    typer.Option(help="prompt: score the ending alone, after its prompt."),
]


def run(
    model: Model,
    benchmarks: Annotated[
        list[Path],
        typer.Option(
            help="Folder of labelled shards (`eval prepare` makes them); may be given several times."
        ),
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
        Literal["mean", "pairs"] | None, typer.Option(help="Average voices of an item first, or count pairs.")
    ] = None,
    unit_offset: UnitOffset = None,
    precision: Precision = "auto",
    compare: Annotated[
        Path | None, typer.Option(help="scores.parquet of another model: paired differences.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Print published scores beside, each with its convention.")
    ] = False,
    submission: Annotated[
        Path | None, typer.Option(help="ZeroSpeech 2021 submission folder to write; must not exist.")
    ] = None,
) -> None:
    """Score a model on labelled shards: per-item scores, accuracies with intervals over items.

    Presets. official, the study's: mean NLL after EOS, closing EOS not scored, ties half (StoryCloze: lost), voices
    averaged, mean over phenomena. zerospeech: summed, ties half, voices averaged, mean over items. slamkit: mean NLL of
    `<S> ... <S>`, the closing one scored, ties half, mean over pairs. Mean over phenomena and over items are both
    always shown where a task has phenomena.

    Scores of other tasks that stand in the folder stay beside these, if they are of the same model and convention;
    tasks scored again are replaced. A run's record.json is brought up to date by the official preset alone.

    --given prompt scores endings alone. Where the label of a pair does not say its prompt, that is what both members
    begin with, at least one unit being left for each ending; pairs whose label says 0 have none.

    An utterance longer than the context is read in windows of one context; each unit is counted once, and every window
    but the first starts half a context before the first unit that it counts.

    Examples:

        speechscale eval run one-run --benchmarks work/nano/units/benchmarks

        speechscale eval run one-run --benchmarks sblimp/units --benchmarks ssc/units --benchmarks tsc/units

        speechscale eval run owner/name@0123abc --unit-offset 2 --benchmarks sblimp/units -o scored --preset slamkit
    """
    from speechscale.errors import UserError
    from speechscale.evals.conventions import convention
    from speechscale.jobs.evaluate import evaluate
    from speechscale.records.scores import read_scores
    from speechscale.workers.progress import spinner

    by = convention(preset, nll=nll, bos=bos, terminal=terminal, ties=ties, given=given, voices=voices)
    if out is None and not Path(model).is_dir():
        raise UserError("--out is needed: the model has no folder here for its scores.")
    if submission and submission.exists():
        raise UserError(f"{submission}: is there already; name a folder for --submission that is not.")
    others = read_scores(compare) if compare else None  # now, for it may be the file that is written
    with spinner("scoring"):
        found = evaluate(
            model, benchmarks, out or Path(model), by, unit_offset=unit_offset, precision=precision
        )
    tell(found)
    if compare and others is not None:
        _tell_differences(found, compare, others, by)
    if published:
        _tell_published()
    if submission:
        _submit(found, submission, by)


def _line(name: str, score: Score, mean_over: str = "") -> str:
    return (
        f"{name:<40} {score.accuracy:6.3f}  [{score.low:.3f}, {score.high:.3f}]  "
        f"{f'mean over {mean_over}, ' * bool(mean_over)}{score.items} items, chance {score.chance:g}"
    )


def tell(found: Evaluation) -> None:
    """Scores with their intervals, by which convention, and what is to be known of them."""
    from speechscale.jobs.train_run import missing_note

    for remark in filter(None, (missing_note(found.missing), *found.remarks)):
        typer.echo(f"{remark}.")
    by, tokens = found.convention, found.tokens
    before = (
        "no token before the first" if tokens["before_first"] is None else f"{tokens['before_first']} before"
    )
    typer.echo(
        f"convention {by.preset}: {by.nll} NLL, {before}, closing {tokens['closing']} {'' if by.terminal else 'not '}"
        f"scored, ties {by.ties}, given {by.given}, voices {by.voices}"
    )
    if found.kept:
        typer.echo(f"scored before: {', '.join(found.kept)}")
    for each in found.accuracies:
        name = ".".join(filter(None, (each.task, each.part))) + (
            f" ({each.condition})" if each.condition else ""
        )
        typer.echo(_line(name, each.score, each.mean_over))


def _tell_differences(found: Evaluation, path: Path, others: pl.DataFrame, by: Convention) -> None:
    from speechscale.evals.compare import compare

    differences = compare(found.table, others, by)
    typer.echo(f"\n{found.model} less {path}, paired by item (sign-flip permutation test):")
    both = sum(each.pairs for each in differences)
    if max(found.table.height, others.height) > both:
        typer.echo(
            f"{found.table.height} pairs here, {others.height} there, of which only {both} have a score in both."
        )
    for each in differences:
        name = each.task + (f" ({each.condition})" if each.condition else "")
        typer.echo(
            f"{name:<40} {each.effect:+6.3f}  [{each.low:+.3f}, {each.high:+.3f}]  p = {each.p:.4f}, {each.items} items"
        )


def _tell_published() -> None:
    from dataclasses import astuple

    from speechscale.evals.published_scores import PUBLISHED

    titles = ("NLL", "before first", "closing token", "ties", "sBLIMP mean over")
    typer.echo(f"\n{'published, in percent':<24} sBLIMP    tSC    sSC  {'; '.join(titles)}; source")
    for each in PUBLISHED:
        numbers = (
            f"{value:6.1f}" if value else "     -"
            for value in (each.sblimp, each.tstorycloze, each.sstorycloze)
        )
        typer.echo(f"{each.system:<24} {' '.join(numbers)}  {'; '.join(astuple(each.taken))}; {each.source}")


def _submit(found: Evaluation, folder: Path, by: Convention) -> None:
    from speechscale.evals.submission import write_submission

    about = {"description": f"{found.model}, scored by speechscale", "train_set": "<to fill in>"}
    absent = write_submission(found.table, found.missing, folder, by, about)
    typer.echo(
        f"\n{folder}: complete meta.yaml before you submit{'; without ' * bool(absent)}{', '.join(absent)}."
    )
