"""Appending a run to an existing runs table: nothing else in it changes, whatever the names of its columns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from run_records import run_record

from speechscale.errors import UserError
from speechscale.records.runs import RunRecord, Score
from speechscale.records.runs_table import append_run, read_table


def record(run: str = "pythia-70m@step1000", accuracy: float = 0.625, loss: float | None = None) -> RunRecord:
    return run_record(
        run=run,
        series="text",
        status="imported" if loss is None else "done",
        preset="unknown",
        params=18_915_328,
        params_total=70_426_624,
        tokens=2_097_152_000,
        unique_tokens=2_097_152_000,
        steps=1000,
        flops=6.0 * 18_915_328 * 2_097_152_000,
        flops_exact=1e18,
        loss=loss,
        loss_se=None,
        bits_per_second=None,
        scores={"sblimp": Score(accuracy=accuracy, low=0.5, high=0.7, items=64)},
    )


def test_new_table(tmp_path: Path) -> None:
    for name in ("runs.csv", "runs.tsv", "runs.parquet"):
        append_run(record(), tmp_path / "new" / name)
        (row,) = read_table(tmp_path / "new" / name).to_dicts()
        assert (row["series"], row["status"], row["loss"]) == ("text", "imported", None)
        assert (row["params"], row["tokens"], row["sblimp"]) == (18_915_328, 2_097_152_000, 0.625)


def test_other_rows_and_columns_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text('run,N,D,L,sblimp,who\nmine,1e6,2.50e7,3.10,55.0,"Smith, J."\n')
    append_run(record(), path)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("run,N,D,L,sblimp,who,") and lines[1].startswith(
        'mine,1e6,2.50e7,3.10,55.0,"Smith, J.",'
    )
    table = read_table(path)
    assert table["sblimp"].to_list() == [0.55, 0.625]  # the table is in percent
    assert table["series"].to_list() == ["runs", "text"] and table["params"].to_list() == [1e6, 18_915_328.0]


def test_row_of_the_same_run_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    for accuracy in (0.5, 0.75):
        append_run(record(accuracy=accuracy), path)
    append_run(record("pythia-70m@step2000", loss=3.25), path)
    table = read_table(path)
    assert table["sblimp"].to_list() == [0.75, 0.625] and table["loss"].to_list() == [None, 3.25]


def test_file_that_is_no_table_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run,params,tokens,loss\na,1e6,2e7,three\n")
    with pytest.raises(UserError, match="row 1, column 'loss': 'three' is not a finite number"):
        append_run(record(), path)
    assert path.read_text() == "run,params,tokens,loss\na,1e6,2e7,three\n"


def test_concurrent_appends_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: append_run(record(f"step{step}"), path), range(24)))
    assert sorted(pl.read_csv(path)["run"]) == sorted(f"step{step}" for step in range(24))
