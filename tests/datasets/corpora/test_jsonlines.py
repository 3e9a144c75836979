"""JSON Lines of the study and of similar manifests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from corpus_files import audio, lines, list_corpus

from speechscale.errors import UserError


def test_manifests_of_the_study_and_similar_ones(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "c" / "long.wav", 10, 44_100)
    audio(tmp_path / "c" / "a.flac", 2.0)
    rows = [
        {"id": "s:0", "dataset": "source", "split": "test", "audio": str(tmp_path / "c" / "a.flac"), "duration": None,
         "offset": 0.0, "sample_rate": None, "transcript": None, "speaker": None, "source_revision": "r1", "extra": {}},
        {"id": "s:1", "audio_path": "long.wav", "offset": 1.5, "duration": 2.25, "text": "hello", "speaker": 7,
         "phenomenon": "x", "extra": {"pair": 1}},
        {"audio_filepath": "long.wav", "offset": 9.0},
        {"id": "s:2", "path": "a.flac", "duration": 2.02},
        {"id": "s:3", "audio": None, "transcript": "said again",
         "synthesis": {"engine": "espeak-ng", "voice": "en-us", "words_per_minute": 175, "seed": 0}},
    ]  # fmt: skip
    result = list_corpus(lines(tmp_path / "c" / "list.jsonl", rows), out)
    assert result.skips == []
    first, second, third, rounded, spoken = result.utterances
    assert (first.id, first.dataset, first.split, first.audio, first.duration, first.sample_rate) == (
        "s:0", "source", "test", "a.flac", 2.0, 16_000
    )  # fmt: skip
    assert (second.offset, second.duration, second.transcript, second.speaker) == (1.5, 2.25, "hello", "7")
    assert second.extra == {"phenomenon": "x", "pair": 1} and second.dataset == "list"
    assert (third.duration, third.id) == (1.0, "list/long.wav@9.0")
    assert rounded.duration == 2.0  # a list may round the end
    assert spoken.synthesis and spoken.audio is None
    # its own manifest, listed again, is itself
    again = list_corpus(out, tmp_path / "again.jsonl", root=result.root)
    assert again.utterances == result.utterances


def test_a_truncated_list_is_an_error_and_not_a_shorter_corpus(tmp_path: Path, out: Path) -> None:
    rows = [{"id": str(k), "audio": "a.wav"} for k in range(5000)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "list.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not whole"):
        list_corpus(tmp_path / "list.jsonl.gz", out, layout="jsonl")
    assert not out.exists()
