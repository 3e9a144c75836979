"""The folder with the scores of one model by one convention, to which further tasks can be added.

Tasks that are scored again replace their former scores; the scores of all other tasks remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from speechscale.errors import UserError
from speechscale.records.code import code_identity
from speechscale.records.revisions import require_revisions, revisions_of
from speechscale.records.scores import (
    COLUMNS,
    INTERVAL_RULE,
    SCORE_TABLE,
    SCORES_FILE,
    BenchmarkProvenance,
    Convention,
    ScoresFile,
    SpecialTokens,
    TaskAccuracy,
    read_score_table,
    read_scores_file,
    write_score_table,
    write_scores_file,
)

OWN_FOLDER = "."  # name of a model whose scores are in the folder of the run itself, which may be moved


@dataclass(frozen=True, kw_only=True)
class ScoringSetup:
    """What all scores of a folder share."""

    model: str
    convention: Convention
    tokens: SpecialTokens


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """Score table of some tasks, with the pairs that lack a score, warnings and provenance."""

    table: pl.DataFrame  # columns: `records/scores.py`
    not_scored: tuple[str, ...] = ()  # task/pair_id
    warnings: tuple[str, ...] = ()
    benchmarks: Mapping[str, BenchmarkProvenance] = field(default_factory=dict)  # by task

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks in the table, sorted."""
        return sorted(self.table["task"].unique())

    def extended(self, other: TaskScores) -> TaskScores:
        """These scores followed by those of other tasks."""
        return TaskScores(
            table=pl.concat([self.table, other.table]),
            not_scored=(*self.not_scored, *other.not_scored),
            warnings=tuple(dict.fromkeys((*self.warnings, *other.warnings))),
            benchmarks={**self.benchmarks, **other.benchmarks},
        )


@dataclass(frozen=True)
class ExistingScores:
    """Scores of a folder that remain, and rows of the tasks that are about to be scored again."""

    kept: TaskScores
    replaced: pl.DataFrame


def model_name(model: str, folder: Path) -> str:
    """How scores.json in `folder` names a model: `OWN_FOLDER` for the run in that folder, else as given."""
    if Path(model).exists() and Path(model).resolve() == folder.resolve():
        return OWN_FOLDER
    return str(Path(model).resolve()) if model == OWN_FOLDER else model


def existing_scores(folder: Path, tasks: Set[str], setup: ScoringSetup) -> ExistingScores:
    """The scores in a folder, parted into those that remain and those of `tasks`.

    Raises:
        UserError: scores that would remain are of another model, convention, tokens or revision of scoring, or
            scores.json does not say.
    """
    path = folder / SCORE_TABLE
    table = read_score_table(path) if path.exists() else pl.DataFrame(schema=COLUMNS)
    scored_again = pl.col("task").is_in(sorted(tasks))
    kept, replaced = table.filter(~scored_again), table.filter(scored_again)
    if kept.is_empty():
        return ExistingScores(TaskScores(table=kept), replaced)
    others = ", ".join(sorted(kept["task"].unique()))
    file = _scores_file(folder / SCORES_FILE, others)
    require_revisions(folder / SCORES_FILE, file.revisions, revisions_of("score"), file.code)
    _require_same_setup(folder, others, file, setup)
    return ExistingScores(
        TaskScores(
            table=kept,
            not_scored=tuple(name for name in file.not_scored if not _is_of(tasks, name, "/")),
            warnings=tuple(warning for warning in file.warnings if not _is_of(tasks, warning, ": ")),
            benchmarks={task: source for task, source in file.benchmarks.items() if task not in tasks},
        ),
        replaced,
    )


def write_score_folder(
    folder: Path, setup: ScoringSetup, scores: TaskScores, accuracies: Iterable[TaskAccuracy]
) -> ScoresFile:
    """Write scores.parquet and scores.json.

    Args:
        folder: made where it is missing.
        setup: model, convention and tokens of all scores.
        scores: all scores of the folder.
        accuracies: of these scores by the convention.

    Returns:
        The content of scores.json.
    """
    file = ScoresFile(
        code=code_identity(),
        revisions=revisions_of("score"),
        model=setup.model,
        convention=setup.convention,
        tokens=setup.tokens,
        benchmarks=dict(scores.benchmarks),
        pairs=scores.table.height,
        not_scored=scores.not_scored,
        warnings=scores.warnings,
        interval_rule=INTERVAL_RULE,
        scores=tuple(accuracies),
    )
    write_score_table(scores.table, folder / SCORE_TABLE)
    write_scores_file(file, folder / SCORES_FILE)
    return file


def _scores_file(path: Path, tasks: str) -> ScoresFile:
    try:
        return read_scores_file(path)
    except UserError as error:
        raise UserError(
            f"{path}: does not say by which convention {tasks} were scored, which would stay in the folder; take "
            "another --out, or score all of its tasks again."
        ) from error


def _require_same_setup(folder: Path, tasks: str, found: ScoresFile, wanted: ScoringSetup) -> None:
    values: dict[str, tuple[object, object]] = {
        "convention": (found.convention, wanted.convention),
        "tokens": (found.tokens, wanted.tokens),
    }
    if not _same_model(folder, found.model, wanted.model):
        values = {"model": (_location(folder, found.model), _location(folder, wanted.model)), **values}
    for name, (before, now) in values.items():
        if before != now:
            raise UserError(
                f"{folder}: holds scores of {tasks} with {name} {_listed(before)}, and these would be with {name} "
                f"{_listed(now)}; a folder has one model and one convention, so take another --out, or score all of "
                "its tasks again."
            )


def _same_model(folder: Path, first: str, second: str) -> bool:
    """Whether two names are equal, or name one existing path."""
    paths = [Path(_location(folder, name)) for name in (first, second)]
    return first == second or (paths[0].exists() and paths[0].resolve() == paths[1].resolve())


def _location(folder: Path, model: str) -> str:
    return str(folder) if model == OWN_FOLDER else model


def _is_of(tasks: Iterable[str], text: str, separator: str) -> bool:
    return any(text.startswith(f"{task}{separator}") for task in tasks)


def _listed(value: object) -> str:
    if isinstance(value, Convention | SpecialTokens):
        return ", ".join(f"{key} {each}" for key, each in value.model_dump().items())
    return str(value)
