"""Score tables and scores.json, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from score_tables import score_table

from speechscale.errors import UserError
from speechscale.records.scores import (
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


def test_score_table_round_trip(tmp_path: Path) -> None:
    table = score_table([{"nll_correct": 4.0, "units_correct": 4, "nll_wrong": 2.0}])
    write_score_table(table, tmp_path / "scores.parquet")
    assert read_score_table(tmp_path / "scores.parquet").equals(table)
    table.drop("voice").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(UserError, match="columns voice are missing"):
        read_score_table(tmp_path / "less.parquet")


def test_scores_file_round_trip_and_its_keys(tmp_path: Path) -> None:
    """Fields that do not apply are absent; an unknown key or schema is refused."""
    path = tmp_path / "scores.json"
    file = ScoresFile(
        model="m",
        convention=Convention(bos=False),
        tokens=SpecialTokens(before_first=None, closing=3),
        benchmarks={"t": BenchmarkProvenance(texts="a.csv", precision="float32", context=8)},
        pairs=2,
        not_scored=("t/1", "t/2"),
        warnings=("t: w",),
        scores=(
            TaskAccuracy(
                task="t", condition="", part="", mean_over="items", accuracy=0.5, low=0.1, high=0.9, items=2
            ),
        ),
    )
    write_scores_file(file, path)
    assert read_scores_file(path) == file
    content = json.loads(path.read_text())
    assert list(content) == [
        *(
            "schema",
            "code",
            "revisions",
            "model",
            "convention",
            "tokens",
            "benchmarks",
            "pairs",
            "not_scored",
            "remarks",
            "interval_rule",
            "scores",
        )
    ]
    assert content["tokens"] == {"before_first": None, "closing": 3} and content["remarks"] == ["t: w"]
    assert content["benchmarks"] == {"t": {"texts": "a.csv", "precision": "float32", "context": 8}}
    assert file.not_scored_note == "2 pairs were not scored, the first t/1"
    for broken in (content | {"schema": "speechscale.scores/1"}, content | {"more": 1}, [], {"model": "m"}):
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"not a file of schema speechscale\.scores/2"):
            read_scores_file(path)
