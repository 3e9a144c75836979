"""Reading of a finished study folder: tables, laws, facts and samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from speechscale.errors import UserError
from speechscale.records.law import LawFile, SeriesLaw, read_law
from speechscale.records.law_sections import EnvelopeLaw, IsoflopLaw, Missing, SingleEpochLaw
from speechscale.records.null_scores import NULL_FILE, NullBand, read_null_scores
from speechscale.records.repeated_sections import RepeatedLaw
from speechscale.records.runs import RunRecord, read_record
from speechscale.records.runs_table import read_curves, read_table
from speechscale.records.score_columns import chance_of, score_names
from speechscale.records.score_law_sections import ScoreLaw
from speechscale.records.study import STUDY_FILE, AudioSample, StudyFile, read_samples_file, read_study_file

UNSEEN = "_unseen"  # ends the name of a score taken with voices that no model heard in training

# Columns of the runs table that the page shows where they are known.
_OPTIONAL = ("epochs", "loss_se", "bits_per_second")
_SCORE_COLUMNS = {
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
    "effective_items": pl.Float64,  # independent answers with the same interval
    "chance": pl.Float64,
    "null_low": pl.Float64,  # band of untrained models, where the run was scored with --null
    "null_high": pl.Float64,
}
_CURVE_COLUMNS = dict.fromkeys(("run", "series"), pl.String) | dict.fromkeys(
    ("params", "tokens", "flops", "loss"), pl.Float64
)


@dataclass(frozen=True)
class StudyResults:
    """The results of a study, as tables and typed records."""

    folder: Path
    about: StudyFile | None  # study.json; None when the folder has none
    runs: pl.DataFrame  # one row per run, failed ones included
    scores: pl.DataFrame  # one row per run, task and condition
    curves: pl.DataFrame  # one row per evaluation of the test loss during training
    law: LawFile | None  # None when the study has none
    samples: list[AudioSample]
    notes: dict[str, str] = field(default_factory=dict)  # run -> why it diverged or failed

    @property
    def done(self) -> pl.DataFrame:
        """The finished runs, which figures and sentences use."""
        return self.runs.filter(pl.col("status") == "done")

    @property
    def series(self) -> list[str]:
        """The series of the finished runs, in their order."""
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

    def isoflop(self, series: str) -> IsoflopLaw | Missing:
        """The IsoFLOP minima of one series, or why they are missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.isoflop or _not_fitted("isoflop", series)

    def downstream(self, series: str) -> dict[str, ScoreLaw | Missing] | Missing:
        """The laws of every score of one series, or why they are missing."""
        law = self.series_law(series)
        return law if isinstance(law, Missing) else law.downstream or _not_fitted("downstream", series)

    def score_law(self, series: str, score: str) -> ScoreLaw | Missing | None:
        """The laws of one score; None where the law file does not contain the score."""
        laws = self.downstream(series)
        return None if isinstance(laws, Missing) else laws.get(score)

    def missing(self, series: str) -> dict[str, str]:
        """Why laws of one series are missing: sections of the law file and their reasons."""
        laws = {
            "single_epoch": self.single_epoch(series),
            "repeated": self.repeated(series),
            "envelope": self.envelope(series),
            "downstream": self.downstream(series),
        }
        return {section: law.missing for section, law in laws.items() if isinstance(law, Missing)}


def _not_fitted(part: str, series: str) -> Missing:
    return Missing(missing=f"law.json has no {part!r} for the series {series!r}.")


def read_study_results(folder: Path) -> StudyResults:
    """Read a study folder. Only `runs.csv` is required; the page names every other file that is missing.

    Raises:
        UserError: no runs table, no finished run, or a file that does not match its schema.
    """
    folder = Path(folder)
    runs = _read_runs(folder / "runs.csv")
    records = {name: record for name in runs["run"] if (record := _record_of(folder, name))}
    curves, law = folder / "curves.csv", folder / "law.json"
    return StudyResults(
        folder=folder,
        about=read_study_file(folder) if (folder / STUDY_FILE).exists() else None,
        runs=runs,
        scores=_scores(runs, records, {name: _null_bands(folder / "runs" / name) for name in records}),
        curves=read_curves(curves) if curves.exists() else pl.DataFrame(schema=_CURVE_COLUMNS),
        law=read_law(law) if law.exists() else None,
        samples=read_samples_file(folder),
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


def _record_of(folder: Path, run: str) -> RunRecord | None:
    path = folder / "runs" / run / "record.json"
    inside = path.resolve().is_relative_to(folder.resolve())  # a run may be called anything, also "../.."
    return read_record(path) if inside and path.exists() else None


def _null_bands(run: Path) -> dict[str, NullBand]:
    """Bands of untrained models by the name of the score; empty where the run was not scored with --null."""
    path = run / NULL_FILE
    if not path.exists():
        return {}
    scores = read_null_scores(path)
    return scores.headline_bands if scores.convention.preset == "official" else {}


def _scores(
    runs: pl.DataFrame, records: dict[str, RunRecord], null_bands: dict[str, dict[str, NullBand]]
) -> pl.DataFrame:
    """One row per score. Intervals come from the run records; without a record they are null."""
    shared = ("run", "series", "params", "tokens", "epochs", "flops", "loss")
    rows = []
    chances = {name: chance_of(runs, name) for name in score_names(runs)}
    for run in runs.filter(pl.col("status") == "done").iter_rows(named=True):
        scores = records[run["run"]].scores if run["run"] in records else {}
        for name in chances:
            if run.get(name) is None:
                continue
            score, band = scores.get(name), null_bands.get(run["run"], {}).get(name)
            rows.append(
                {key: run[key] for key in shared}
                | {
                    "task": name.removesuffix(UNSEEN),
                    "condition": "unseen" if name.endswith(UNSEEN) else "seen",
                    "accuracy": run[name],
                    "low": score.low if score else None,
                    "high": score.high if score else None,
                    "items": run.get(f"{name}_items"),
                    "effective_items": run.get(f"{name}_effective_items"),
                    "chance": score.chance if score else chances[name],
                    "null_low": band.low if band else None,
                    "null_high": band.high if band else None,
                }
            )
    return pl.DataFrame(rows, schema=_SCORE_COLUMNS)
