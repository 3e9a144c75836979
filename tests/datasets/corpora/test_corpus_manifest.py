"""The manifest of a corpus, whatever its layout."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import audio, lines, list_corpus
from lhotse import Recording, RecordingSet

from speechscale.datasets.corpora import open_corpus
from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.errors import UserError

NO_DRAW = SplitOptions(test_share=0)


def make_recording(path: Path, name: str, seconds: float = 3.0) -> Recording:
    return Recording.from_file(audio(path, seconds), recording_id=name)


def test_stated_durations_are_checked_unless_trusted(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "a.wav", 1.0)
    rows = [{"id": "a", "audio": "a.wav", "duration": 5.0}, {"id": "b", "audio": "none.wav", "duration": 1.0}]
    rows.append({"id": "c", "audio": "a.wav", "duration": 0.5})
    path = lines(tmp_path / "list.jsonl", rows)
    checked = list_corpus(path, out, NO_DRAW)
    assert checked.ids == ["c"] and checked.reasons == {"a": "beyond the end", "b": "missing"}
    trusted = list_corpus(path, out, NO_DRAW, trust_durations=True)
    assert trusted.ids == ["a", "c"] and trusted.reasons == {"b": "missing"}

    recording = make_recording(tmp_path / "one.wav", "one")
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "r.jsonl.gz")
    audio(tmp_path / "one.wav", 2.0)  # after it was listed
    with pytest.raises(UserError, match="none of 1 utterances can be used"):
        list_corpus(tmp_path / "r.jsonl.gz", out)
    (skip,) = out.with_suffix(".skips.jsonl").read_text().splitlines()
    assert json.loads(skip)["reason"] == "another length"


def test_paths_that_are_no_corpus(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(UserError, match="did you mean 'parquet'"):
        open_corpus(tmp_path, "parket")
    with pytest.raises(UserError, match="or say --layout"):
        open_corpus(audio(tmp_path / "a.wav"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio here"):
        list_corpus(tmp_path / "empty", out)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(UserError, match="none of 1 utterances"):
        list_corpus(tmp_path / "text.parquet", out)
    assert "no column holds audio bytes; found text" in out.with_suffix(".skips.jsonl").read_text()
    with pytest.raises(UserError, match="is the corpus itself"):
        list_corpus(lines(tmp_path / "m.jsonl", [{"audio": "a.wav"}]), tmp_path / "m.jsonl")
