"""Zero-shot scores of a unit language model on labelled shards, by a convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from speechscale.compute import Precision
from speechscale.errors import UserError
from speechscale.evals.accuracy import headline_scores, task_accuracies
from speechscale.evals.contrasts import contrast_sources
from speechscale.evals.conventions import PRESETS, convention_from_preset, unscored_pairs
from speechscale.evals.published_scores import PUBLISHED_SCORES, PublishedScore
from speechscale.jobs.null_scores import require_enough_models, score_untrained_models
from speechscale.records.revisions import revisions_of
from speechscale.records.runs import RECORD, read_record, write_record
from speechscale.records.score_folder import (
    ExistingScores,
    ScoringSetup,
    TaskScores,
    existing_scores,
    model_name,
    write_score_folder,
)
from speechscale.records.scores import BenchmarkProvenance, Convention, ScoresFile, read_score_table
from speechscale.records.shards import shards_identity

if TYPE_CHECKING:
    from speechscale.evals.compare import PairedDifference
    from speechscale.evals.tasks import Benchmarks
    from speechscale.jobs.load_model import UnitModel
    from speechscale.records.null_scores import NullScores
    from speechscale.records.runs import RunRecord, Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one model on all tasks of its score folder."""

    model: str  # as the user named it
    table: pl.DataFrame  # score table: `records/scores.py`
    file: ScoresFile
    existing_tasks: tuple[str, ...] = ()  # tasks whose scores were in the folder before

    @property
    def headline_scores(self) -> dict[str, Score]:
        """The scores of a runs table, by name."""
        return headline_scores(self.table, self.file.convention)


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Everything that `speechscale eval run` is asked for."""

    model: str
    benchmarks: Sequence[Path]  # folders of labelled shards
    out: Path | None = None  # None: the folder of the run
    preset: str = "official"
    switches: Mapping[str, object]  # fields of `Convention`; None keeps the value of the preset
    unit_offset: int | None = None
    precision: Precision = "auto"
    compare: Path | None = None  # score table of another model
    published: bool = False
    submission: Path | None = None  # folder to write
    null: int | None = None  # number of untrained models to score as well


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Paired differences to the score table of another model, and the number of its rows."""

    path: Path
    pairs: int
    differences: list[PairedDifference]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What `speechscale eval run` shows; None for what was not asked for."""

    evaluation: Evaluation
    comparison: Comparison | None
    published: tuple[PublishedScore, ...] | None
    submission_gaps: list[str] | None  # score files whose splits were not scored
    null: NullScores | None = None


def run_evaluation(request: EvaluationRequest) -> EvaluationReport:
    """Score a model, compare it with another, and write a submission, as far as asked for.

    Raises:
        UserError: see `evaluate`; further, too few untrained models, no folder for the scores, a submission folder that
            exists or would be incomplete, or a score table without a common pair.
    """
    convention = convention_from_preset(request.preset, **request.switches)
    if request.null is not None:
        require_enough_models(request.null)
    if request.out is None and not Path(request.model).is_dir():
        raise UserError("--out is needed: the model has no folder here for its scores.")
    if request.submission and request.submission.exists():
        raise UserError(f"{request.submission}: exists already; name another folder for --submission.")
    # Read before scoring, because it may be the file that is then replaced.
    other = read_score_table(request.compare) if request.compare else None
    out = request.out or Path(request.model)
    evaluation = evaluate(
        request.model,
        request.benchmarks,
        out,
        convention,
        unit_offset=request.unit_offset,
        precision=request.precision,
    )
    null = None
    if request.null is not None:
        null = score_untrained_models(
            request.model,
            request.benchmarks,
            out,
            request.null,
            evaluation.file,
            unit_offset=request.unit_offset,
            precision=request.precision,
        )
    try:
        return EvaluationReport(
            evaluation=evaluation,
            comparison=_compare(evaluation, request.compare, other),
            published=PUBLISHED_SCORES if request.published else None,
            submission_gaps=_submit(evaluation, request.submission),
            null=null,
        )
    except UserError as error:
        raise UserError(f"{error} The scores are in {out}.") from error


def evaluate(
    source: str,
    benchmarks: Sequence[Path],
    out: Path,
    convention: Convention,
    *,
    unit_offset: int | None = None,
    precision: Precision = "auto",
) -> Evaluation:
    """Score a model, and add the scores to those of other tasks in a score folder.

    The record of a run that is scored into its own folder by the official convention gets the scores, too. All scores
    of a runs table are by this convention.

    Args:
        source: see `open_unit_model`.
        benchmarks: folders of labelled shards.
        out: gets scores.parquet and scores.json.
        convention: how the answer to a pair is decided.
        unit_offset: token of unit 0, for Hugging Face models whose config.json does not name it.
        precision: of the matrix products.

    Raises:
        UserError: no model, no labelled shards, units that are not the model's, or a folder that holds further tasks of
            another model or convention.
    """
    from speechscale.evals.tasks import open_benchmarks
    from speechscale.jobs.load_model import open_model_for_shards

    opened = open_benchmarks(benchmarks, given=convention.given)
    model, warnings = open_model_for_shards(source, opened.folders, unit_offset)
    setup = _scoring_setup(model, convention, out)
    existing = existing_scores(out, opened.tasks, setup)
    scores = _score_benchmarks(opened, model, setup, precision, warnings)
    evaluation = write_evaluation(source, setup, scores, out, existing.kept)
    is_own_folder = Path(source).resolve() == out.resolve()
    if is_own_folder and (out / RECORD).exists() and convention == PRESETS["official"]:
        _update_record(out / RECORD, evaluation, existing)
    return evaluation


def score_run(record: RunRecord, folder: Path, benchmarks: Path) -> RunRecord:
    """Score a run of a study by the official convention, in place of all former scores in its folder.

    Args:
        record: of the run.
        folder: of the run; gets scores.parquet and scores.json.
        benchmarks: folder of labelled shards.

    Returns:
        The record with the scores; it is not written.

    Raises:
        UserError: no labelled shards, or units that are not the model's.
    """
    from speechscale.evals.tasks import open_benchmarks
    from speechscale.jobs.load_model import open_model_for_shards

    opened = open_benchmarks([benchmarks])
    model, warnings = open_model_for_shards(str(folder), opened.folders)
    setup = _scoring_setup(model, PRESETS["official"], folder)
    scores = _score_benchmarks(opened, model, setup, "auto", warnings)
    evaluation = write_evaluation(str(folder), setup, scores, folder)
    update = {"scores": evaluation.headline_scores, "note": evaluation.file.updated_note(record.note)}
    return record.model_copy(update=update)


def write_evaluation(
    model: str, setup: ScoringSetup, scores: TaskScores, out: Path, kept: TaskScores | None = None
) -> Evaluation:
    """Write new scores into a folder, with the scores of other tasks that remain there.

    Args:
        model: as the user named it.
        setup: model, convention and tokens of all scores.
        scores: new scores.
        out: the folder.
        kept: scores of other tasks; None: none remain.
    """
    combined = kept.extended(scores) if kept else scores
    file = write_score_folder(out, setup, combined, task_accuracies(combined.table, setup.convention))
    return Evaluation(
        model=model, table=combined.table, file=file, existing_tasks=tuple(kept.tasks) if kept else ()
    )


def _scoring_setup(model: UnitModel, convention: Convention, out: Path) -> ScoringSetup:
    return ScoringSetup(
        model=model_name(model.name, out), convention=convention, tokens=model.special_tokens(convention)
    )


def _score_benchmarks(
    benchmarks: Benchmarks,
    model: UnitModel,
    setup: ScoringSetup,
    precision: Precision,
    warnings: Sequence[str],
) -> TaskScores:
    """Score every pair of labelled shards."""
    from speechscale.compute import choose_dtype
    from speechscale.evals.score import score_pairs

    dtype = choose_dtype(precision, model.model.device)
    table = score_pairs(model.model, benchmarks.pairs, setup.tokens, dtype=dtype)
    inferred = benchmarks.unlabelled if setup.convention.given == "prompt" else None
    prompt_warnings = [
        f"{task}: no label gives the prompt of {count} pairs; it is inferred as what both members begin with"
        for task, count in benchmarks.unlabelled.items()
    ]
    return TaskScores(
        table=table,
        not_scored=(*benchmarks.unpaired, *unscored_pairs(table, setup.convention)),
        warnings=tuple(sorted([*warnings, *prompt_warnings])),
        benchmarks={
            task: BenchmarkProvenance(
                shards=shards_identity(benchmarks.shards_of(task)),
                precision=str(dtype).removeprefix("torch."),
                context=model.model.context,
                prompts_not_labelled=None if inferred is None else inferred[task],
                contrasts=contrast_sources(table, task),
            )
            for task in sorted(benchmarks.tasks)
        },
    )


def _update_record(path: Path, evaluation: Evaluation, existing: ExistingScores) -> None:
    """Put the scores of a folder into the record of its run, in place of those that were scored again."""
    record = read_record(path)
    replaced = headline_scores(existing.replaced, evaluation.file.convention)
    kept = {name: score for name, score in record.scores.items() if name not in replaced}
    scores = kept | evaluation.headline_scores
    # Scores of the record alone, whose items are not in the folder, may be of an older revision: it then remains.
    all_new = scores.keys() == evaluation.headline_scores.keys()
    update = {
        "scores": scores,
        "note": evaluation.file.updated_note(record.note),
        "revisions": record.revisions | (revisions_of("score") if all_new else {}),
    }
    write_record(record.model_copy(update=update), path)


def _compare(evaluation: Evaluation, path: Path | None, other: pl.DataFrame | None) -> Comparison | None:
    from speechscale.evals.compare import paired_differences

    if path is None or other is None:
        return None
    differences = paired_differences(evaluation.table, other, evaluation.file.convention)
    return Comparison(path=path, pairs=other.height, differences=differences)


def _submit(evaluation: Evaluation, folder: Path | None) -> list[str] | None:
    from speechscale.evals.submission import write_submission

    if folder is None:
        return None
    file = evaluation.file
    description = f"{evaluation.model}, scored by speechscale"
    return write_submission(
        evaluation.table, file.not_scored, folder, file.convention, description=description
    )
