"""Series against series on the page: simulated ladders whose exponents are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from speechscale.laws.table import fit_table
from speechscale.records.law import read_law, write_law
from speechscale.records.law_sections import Missing
from speechscale.records.runs import RunRecord, Score, read_record, write_record
from speechscale.records.runs_table import write_curves, write_table
from speechscale.report.comparison import efficiency_comparisons
from speechscale.report.figures import specification, study_figures
from speechscale.report.folder import read_study_results
from speechscale.report.page import page
from speechscale.report.summary import findings

EXPONENTS = {"speech": 0.02, "text": 0.06}
ITEMS = 4000


def ladder(series: str, simulated: list[RunRecord]) -> list[RunRecord]:
    """Simulated runs whose scores follow Q = k C^gamma, up to the noise of items."""
    rng = np.random.default_rng(len(series))
    records = []
    for record in simulated:
        if record.status == "done":
            share = 0.52 * (record.flops / 3e10) ** EXPONENTS[series]
            names = ("sblimp", "sblimp_unseen") if series == "speech" else ("sblimp",)
            scores = {}
            for name in names:
                found = rng.binomial(ITEMS, share) / ITEMS
                scores[name] = Score(accuracy=found, low=found - 0.015, high=found + 0.015, items=ITEMS)
            rate = 20.0 if series == "speech" else 12.0
            bits = (record.loss or 0) * rate
            run = record.run.replace("speech", series)
            records.append(
                record.model_copy(
                    update={"run": run, "series": series, "scores": scores, "bits_per_second": bits}
                )
            )
    return records


@pytest.fixture(scope="module")
def folder(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    simulated = [read_record(path) for path in sorted(finished_study.glob("runs/*/record.json"))]
    folder = tmp_path_factory.mktemp("compared")
    records = [*ladder("speech", simulated), *ladder("text", simulated)]
    for record in records:
        write_record(record, folder / "runs" / record.run / "record.json")
    write_table(records, folder / "runs.csv")
    write_curves(records, folder / "curves.csv")
    write_law(
        fit_table(pl.DataFrame([record.row() for record in records]), bootstrap=200), folder / "law.json"
    )
    return folder


def test_efficiency_ratio_of_simulated_ladders_has_interval_and_explanation(folder: Path) -> None:
    found = read_law(folder / "law.json").efficiency["text/speech"]["sblimp"]
    low, high = found.interval95
    assert low < EXPONENTS["text"] / EXPONENTS["speech"] < high and high - low < 4
    study = read_study_results(folder)
    (only,) = efficiency_comparisons(
        study
    )  # the later series against the earlier, of the scores that both have
    assert (only.series, only.reference, only.name) == ("text", "speech", "sBLIMP")
    (sentence,) = [said for said in findings(study) if "ratio of exponents" in said]
    for said in (
        f"{found.ratio:.2f}",
        f"[{low:.2f}, {high:.2f}]",
        "a rate per decade, not a fixed multiple",
    ):
        assert said in sentence
    whole = page(study)
    assert "text against speech" in whole and "A ratio of exponents is a rate per decade" in whole


def test_ratio_whose_interval_contains_one_is_inconclusive(folder: Path) -> None:
    study = read_study_results(folder)
    scores = study.law.efficiency["text/speech"]
    found = scores["sblimp"]
    for interval, told in (((0.6, 1.7), True), ((1.1, 2.1), False), (None, True)):
        scores["sblimp"] = found.model_copy(update={"interval95": interval})
        (sentence,) = [said for said in findings(study) if "ratio of exponents" in said]
        assert ("do not tell which of the two is the faster" in sentence) == told


def test_missing_comparison_gives_its_reason(folder: Path) -> None:
    study = read_study_results(folder)
    missing = Missing(missing="the exponent of speech is not certain")
    study.law.efficiency["text/speech"]["sblimp"] = missing
    assert "the exponent of speech is not certain" in page(study)
    assert not [said for said in findings(study) if "ratio of exponents" in said]


def test_all_series_are_drawn_in_the_comparison_figures(folder: Path) -> None:
    figures = {figure.name: figure for figure in study_figures(read_study_results(folder))}
    for name, column in (("series-bits", "bits_per_second"), ("series-scores", "accuracy")):
        (panel,) = figures[name].panels  # new voices: of one series alone
        rows = [row for rows in specification(panel)["datasets"].values() for row in rows if "run" in row]
        assert {row["series"] for row in rows} == {"speech", "text"} and all(row[column] > 0 for row in rows)
    least = next(
        rows
        for rows in specification(figures["series-bits"].panels[0])["datasets"].values()
        if rows and "status" in rows[0]
    )
    for series in EXPONENTS:
        falling = [row["bits_per_second"] for row in least if row["series"] == series]
        assert len(falling) > 1 and falling == sorted(falling, reverse=True)


def test_single_series_has_no_comparison(finished_study: Path) -> None:
    study = read_study_results(finished_study)
    assert not list(efficiency_comparisons(study)) and "Series against series" not in page(study)
