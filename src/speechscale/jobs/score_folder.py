"""Scores that stand in a folder: one model's by one convention; further tasks come beside those scored before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from speechscale.errors import UserError
from speechscale.evals.accuracy import accuracies
from speechscale.evals.conventions import PRESETS, Convention, unscored
from speechscale.records.revisions import require_revisions, revisions_of
from speechscale.records.runs import RECORD, RunRecord, Score
from speechscale.records.scores import COLUMNS, read_scores

SCORES, SUMMARY = "scores.parquet", "scores.json"
SCHEMA = "speechscale.scores/2"


@dataclass(frozen=True)
class ExistingScores:
    """What a folder holds of tasks that are not scored anew, and the rows of those that are."""

    table: pl.DataFrame
    replaced: pl.DataFrame
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    benchmarks: Mapping[str, Any] = field(default_factory=dict)
    told: bool = True  # whether scores.json says what is missing

    @property
    def tasks(self) -> list[str]:
        return sorted(self.table["task"].unique())

    def scores(self, record: RunRecord, table: pl.DataFrame, by: Convention) -> dict[str, Score]:
        """Those of a record, with all of `table` in place of what is scored anew."""
        before = accuracies(self.replaced, by)
        return {name: score for name, score in record.scores.items() if name not in before} | accuracies(
            table, by
        )


def existing_scores(
    out: Path, tasks: Set[str], model: str, by: Convention, tokens: Mapping[str, int | None]
) -> ExistingScores:
    """What of the scores in `out` stays beside those of `tasks`.

    Raises:
        UserError: what would stay is of another model or convention, or nothing says of which.
    """
    path = out / SCORES
    table = read_scores(path) if path.exists() else pl.DataFrame(schema=COLUMNS)
    again = pl.col("task").is_in(sorted(tasks))
    kept, replaced = table.filter(~again), table.filter(again)
    if kept.is_empty():
        return ExistingScores(kept, replaced)
    others = ", ".join(sorted(kept["task"].unique()))
    if not (out / SUMMARY).exists() and (out / RECORD).exists() and _same(model, str(out)):
        # A study scores its runs by its own convention and writes no scores.json.
        said: dict[str, Any] = {
            "model": model,
            "convention": PRESETS["official"].model_dump(),
            "tokens": dict(tokens),
        }
        missing, told = unscored(kept, PRESETS["official"]), False
    else:
        said, told = _said(out / SUMMARY, others), True
        require_revisions(out / SUMMARY, said.get("revisions", {}), revisions_of("score"))
        missing = [name for name in said["not_scored"] if not _of(tasks, name, "/")]
    wanted: dict[str, Any] = {"model": model, "convention": by.model_dump(), "tokens": dict(tokens)}
    if _same(model, said["model"]):
        said["model"] = model
    differing = [name for name in wanted if said[name] != wanted[name]]
    if differing:
        name = differing[0]
        raise UserError(
            f"{out}: holds scores of {others} with {name} {_brief(said[name])}, and these would be with {name} "
            f"{_brief(wanted[name])}; a folder has one model and one convention, so take another --out, or score "
            "all of its tasks again."
        )
    remarks = [remark for remark in said.get("remarks", []) if not _of(tasks, remark, ": ")]
    benchmarks = {task: facts for task, facts in said.get("benchmarks", {}).items() if task not in tasks}
    return ExistingScores(kept, replaced, missing, remarks, benchmarks, told)


def _said(path: Path, tasks: str) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["schema"] == SCHEMA:
            return {"not_scored": []} | said
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{path}: does not say by which convention {tasks} were scored, which would stay in the folder; take another "
        "--out, or score all of its tasks again."
    )


def _same(model: str, other: str) -> bool:
    """One name, or two of one folder."""
    return model == other or (Path(model).exists() and Path(model).resolve() == Path(other).resolve())


def _of(tasks: Iterable[str], text: str, sign: str) -> bool:
    return any(text.startswith(f"{task}{sign}") for task in tasks)


def _brief(value: object) -> str:
    return (
        ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
    )
