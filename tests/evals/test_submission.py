"""Submission folders of ZeroSpeech 2021."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml
from score_tables import score_table

from speechscale.errors import UserError
from speechscale.evals.submission import write_submission
from speechscale.records.scores import Convention


def test_submission_has_one_line_per_recording(tmp_path: Path) -> None:
    rows = [{"nll_correct": 2.0, "nll_wrong": 3.5, "name_correct": "xYz", "name_wrong": "aBc"}]
    scores = score_table(rows).with_columns(task=pl.lit("sblimp"), condition=pl.lit("dev"))
    absent = write_submission(scores, ["t/x"], tmp_path / "s", Convention(nll="sum"), description="d")
    assert (tmp_path / "s" / "syntactic" / "dev.txt").read_text() == "aBc -3.5\nxYz -2.0\n"
    meta = yaml.safe_load((tmp_path / "s" / "meta.yaml").read_text())
    assert meta["benchmark_name"] == "sLM21" and meta["publication"].keys() >= {"authors", "institution"}
    params = yaml.safe_load((tmp_path / "s" / "params.yaml").read_text())
    assert params["syntactic"]["score_files_type"] == ".txt"
    assert absent == ["lexical/dev.txt", "lexical/test.txt", "syntactic/test.txt"]
    with pytest.raises(UserError, match="nothing to submit"):
        write_submission(score_table(rows), [], tmp_path / "s2", Convention(), description="d")
    with pytest.raises(UserError, match="1 pairs have no score, the first sblimp/dev/lone"):
        write_submission(scores, ["t/x", "sblimp/dev/lone"], tmp_path / "s2", Convention(), description="d")
