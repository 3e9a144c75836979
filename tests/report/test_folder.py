import json

import polars as pl
import pytest

from speechscale.errors import UserError
from speechscale.records.runs_table import write_table
from speechscale.report.folder import read_study_results


def test_scores_are_rows_with_the_intervals_of_their_records(study_folder, records):
    study = read_study_results(study_folder)
    record = records[3]
    row = study.scores.row(
        by_predicate=(pl.col("run") == record.run)
        & (pl.col("task") == "minimal_pairs.agreement")
        & (pl.col("condition") == "unseen"),
        named=True,
    )
    score = record.scores["minimal_pairs.agreement_unseen"]
    assert (row["accuracy"], row["low"], row["high"], row["items"]) == (
        score.accuracy,
        score.low,
        score.high,
        score.items,
    )
    assert study.scores.height == sum(len(record.scores) for record in records)


def test_unfinished_runs_are_separate_and_have_their_note(study_folder):
    study = read_study_results(study_folder)
    assert study.runs.height == 21
    assert study.done.height == 20
    assert study.notes == {"speech-811k-x40": "loss was nan at step 17; lower the learning rate."}


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"runs\.csv: not found.*speechscale study run"):
        read_study_results(tmp_path)


def test_a_folder_without_a_finished_run_is_refused(tmp_path, records):
    write_table(records[-1:], tmp_path / "runs.csv")
    with pytest.raises(UserError, match="none of its 1 runs is done"):
        read_study_results(tmp_path)


def test_json_of_the_wrong_kind_is_refused(study_folder):
    (study_folder / "samples.json").write_text(json.dumps({"text": "not a list"}))
    sentence = (
        r"samples\.json: the file: Input should be a valid list; found \{'text': 'not a list'\}; "
        r"run the study again to write the file again\."
    )
    with pytest.raises(UserError, match=sentence):
        read_study_results(study_folder)


def test_folder_with_only_a_runs_table_is_read(tmp_path, records):
    write_table(records, tmp_path / "runs.csv")
    study = read_study_results(tmp_path)
    assert study.scores["low"].null_count() == study.scores.height  # accuracies are known, intervals are not
    assert "law.json" in study.envelope("speech").missing


def test_chance_without_run_records_is_stated_or_known(tmp_path, records):
    """Not one half for every score: it is the column of the table, then the known chance, then nothing."""
    write_table(records, tmp_path / "runs.csv")
    table = pl.read_csv(tmp_path / "runs.csv").rename({"lexical": "salad", "lexical_items": "salad_items"})
    table = table.with_columns(salad_chance=pl.lit(0.25)).select(pl.exclude("^lexical.*$"))
    table.write_csv(tmp_path / "runs.csv")
    found = dict(read_study_results(tmp_path).scores.select("task", "chance").unique().iter_rows())
    assert found["salad"] == 0.25 and found["tstorycloze"] == 0.5
    table.drop("salad_chance").write_csv(tmp_path / "runs.csv")
    scores = read_study_results(tmp_path).scores
    assert scores.filter(pl.col("task") == "salad")["chance"].null_count() == 20


def test_run_name_with_path_outside_the_study_is_not_followed(make_study, records, tmp_path):
    outside = tmp_path / "record.json"
    folder = make_study(records)
    outside.write_text("not a record: reading it would fail")
    table = pl.read_csv(folder / "runs.csv").with_columns(
        run=pl.when(pl.col("run") == records[0].run).then(pl.lit("../..")).otherwise(pl.col("run"))
    )
    table.write_csv(folder / "runs.csv")
    assert read_study_results(folder).done.height == 20
