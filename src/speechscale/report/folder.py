"""A finished study folder, read: the only place where the report touches the disk for its facts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from speechscale.errors import UserError
from speechscale.records.law import LawFile, read_law
from speechscale.records.law_sections import (
    EnvelopeLaw,
    Missing,
    RepeatedLaw,
    ScoreLaw,
    SeriesLaw,
    SingleEpochLaw,
)
from speechscale.records.runs import RunRecord, read_record
from speechscale.records.runs_table import read_curves, read_table, score_names

UNSEEN = "_unseen"  # ends the name of a score taken with voices that no model heard in training
CHANCE = 0.5  # of a two-way choice; used where a run record does not say

# Columns of the runs table that the page shows where they are known.
_OPTIONAL = ("epochs", "loss_se", "bits_per_second")
_SCORE_COLUMNS: dict[str, Any] = {
    "run": pl.String,
    "series": pl.String,
    "params": pl.Float64,
    "tokens": pl.Float64,
    "epochs": pl.Float64,
    "flops": pl.Float64,
    "loss": pl.Float64,
    "task": pl.String,
    "condition": pl.String,  # "seen" or "unseen" voices
    "accuracy": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "items": pl.Float64,
    "chance": pl.Float64,
}
_CURVE_COLUMNS = dict.fromkeys(("run", "series"), pl.String) | dict.fromkeys(
    ("params", "tokens", "flops", "loss"), pl.Float64
)


@dataclass(frozen=True)
class StudyResults:
    """What a study found, as tables."""

    folder: Path
    about: dict[str, Any]  # study.json; any key may be missing
    runs: pl.DataFrame  # one row a run, failed ones included
    scores: pl.DataFrame  # one row a run, task and condition
    curves: pl.DataFrame  # one row a reading of the test loss during training
    law: LawFile | None  # None when the study has none
    samples: list[dict[str, Any]]
    notes: dict[str, str] = field(default_factory=dict)  # run -> why it diverged or failed

    @property
    def done(self) -> pl.DataFrame:
        """The finished runs: what figures and sentences are about."""
        return self.runs.filter(pl.col("status") == "done")

    @property
    def series(self) -> list[str]:
        return self.done["series"].unique(maintain_order=True).to_list()

    def series_law(self, series: str) -> SeriesLaw | Missing:
        """The laws of one series, or why there are none."""
        if self.law is None:
            return Missing(
                missing="this study folder has no law.json; `speechscale fit` makes one from runs.csv."
            )
        return self.law.series.get(series) or Missing(
            missing=f"law.json holds no law for the series {series!r}."
        )

    def single_epoch(self, series: str) -> SingleEpochLaw | Missing:
        """The single-epoch law of one series, or why it is missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.single_epoch

    def repeated(self, series: str) -> RepeatedLaw | Missing:
        """The law of repeated data of one series, or why it is missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.repeated or _not_fitted("repeated", series)

    def envelope(self, series: str) -> EnvelopeLaw | Missing:
        """The envelope of one series, or why it is missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.envelope or _not_fitted("envelope", series)

    def downstream(self, series: str) -> dict[str, ScoreLaw | Missing] | Missing:
        """The laws of every score of one series, or why they are missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.downstream or _not_fitted("downstream", series)

    def score_law(self, series: str, score: str) -> ScoreLaw | Missing | None:
        """The laws of one score; None where nothing is known of it."""
        laws = self.downstream(series)
        return None if isinstance(laws, Missing) else laws.get(score)

    def missing(self, series: str, part: str) -> str | None:
        """Why one of the laws `single_epoch`, `repeated`, `envelope`, `downstream` is missing; None if it is there."""
        law = getattr(self, part)(series)
        return law.missing if isinstance(law, Missing) else None


def _not_fitted(part: str, series: str) -> Missing:
    return Missing(missing=f"law.json has no {part!r} for the series {series!r}.")


def read_study_results(folder: Path) -> StudyResults:
    """Read a study folder. Only `runs.csv` must be there; what else is missing leaves a gap that is named.

    Raises:
        UserError: no runs table, no finished run, or a file that is not what its name says.
    """
    folder = Path(folder)
    runs = _read_runs(folder / "runs.csv")
    records = {name: record for name in runs["run"] if (record := _record_of(folder, name))}
    curves, law = folder / "curves.csv", folder / "law.json"
    return StudyResults(
        folder=folder,
        about=_read_json(folder / "study.json", {}),
        runs=runs,
        scores=_scores(runs, records),
        curves=read_curves(curves) if curves.exists() else pl.DataFrame(schema=_CURVE_COLUMNS),
        law=read_law(law) if law.exists() else None,
        samples=_read_json(folder / "samples.json", []),
        notes={name: record.note for name, record in records.items() if record.note},
    )


def _read_runs(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise UserError(
            f"{path}: not found; a report is written from a finished study folder, which holds runs.csv. "
            "Run `speechscale study run` first, or name another folder."
        )
    runs = read_table(path)
    absent = [pl.lit(None, pl.Float64).alias(name) for name in _OPTIONAL if name not in runs.columns]
    runs = runs.with_columns(*absent)
    runs = runs.with_columns(pl.col("epochs").fill_null(pl.col("tokens") / pl.col("unique_tokens")))
    if runs["loss"].null_count() == runs.height:
        raise UserError(
            f"{path}: none of its {runs.height} runs is done with a loss, so nothing can be reported."
        )
    return runs.sort("series", "params", "tokens", maintain_order=True)


def _read_json(path: Path, absent: Any) -> Any:
    if not path.exists():
        return absent
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not JSON ({error}); make this stage again.") from error
    if not isinstance(value, type(absent)):
        raise UserError(f"{path}: holds a {type(value).__name__}, wanted a {type(absent).__name__}.")
    return value


def _record_of(folder: Path, run: str) -> RunRecord | None:
    path = folder / "runs" / run / "record.json"
    inside = path.resolve().is_relative_to(folder.resolve())  # a run may be called anything, also "../.."
    return read_record(path) if inside and path.exists() else None


def _scores(runs: pl.DataFrame, records: dict[str, RunRecord]) -> pl.DataFrame:
    """Every score as a row of its own. Intervals come from the run records; without one they stay empty."""
    shared = ("run", "series", "params", "tokens", "epochs", "flops", "loss")
    rows = []
    for run in runs.filter(pl.col("status") == "done").iter_rows(named=True):
        of_record = records[run["run"]].scores if run["run"] in records else {}
        for name in score_names(runs):
            if run.get(name) is None:
                continue
            score = of_record.get(name)
            rows.append(
                {key: run[key] for key in shared}
                | {
                    "task": name.removesuffix(UNSEEN),
                    "condition": "unseen" if name.endswith(UNSEEN) else "seen",
                    "accuracy": run[name],
                    "low": score.low if score else None,
                    "high": score.high if score else None,
                    "items": run.get(f"{name}_items"),
                    "chance": score.chance if score else CHANCE,
                }
            )
    return pl.DataFrame(rows, schema=_SCORE_COLUMNS)
