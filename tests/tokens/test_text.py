"""Shards of text from shards of speech: the same utterances and seconds, as bytes of UTF-8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transcribed_shards import PREPROCESSING, transcribed

from speechscale.errors import UserError
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import Skip, encoding_of, open_shards, write_shard
from speechscale.tokens.text import NUM_BYTES, TEXT_VOCABULARY, utf8_bytes, write_text_shards


def label(pair: str, correct: bool, group: str = "g") -> dict[str, Any]:
    return {"task": "t", "group_id": group, "pair_id": pair, "correct": correct}


def test_transcripts_become_bytes(tmp_path: Path) -> None:
    samples = [transcribed("a", "The cat. Zoë."), transcribed("b", "A dog.", 2.25, extra={"note": "kept"})]
    write_shard(tmp_path / "units" / "s0", samples, [Skip("c", "too short", "no frame")], PREPROCESSING)
    write_shard(tmp_path / "units" / "s1", [transcribed("d", "Fish.")], [], PREPROCESSING)
    write_text_shards(tmp_path / "units", tmp_path / "text")
    first, second = open_shards(tmp_path / "text")
    assert [bytes(units[:-1].astype(np.uint8)).decode() for units in first.samples()] == [
        "The cat. Zoë.",
        "A dog.",
    ]
    assert all(units[-1] == NUM_BYTES == first.preprocessing["eos_token"] for units in first.samples())
    assert first.preprocessing["vocab_size"] == TEXT_VOCABULARY == 258
    assert first.seconds == 3.75 and second.seconds == 1.5 and first.durations is None
    assert first.rows()[1]["extra"] == {"note": "kept"} and first.skips()[0].id == "c"
    verify_shard(first.folder)


def test_only_the_first_voice_of_a_benchmark_group_is_kept(tmp_path: Path) -> None:
    members = [
        transcribed(
            f"{group}{pair}{correct}", f"{group} {correct}", extra=label(f"{group}/{pair}", correct, group)
        )
        for group in ("g", "h")
        for pair in ("seen", "unseen")
        for correct in (True, False)
    ]
    write_shard(tmp_path / "units" / "s0", members[:3], [], PREPROCESSING)  # a group in two shards
    write_shard(tmp_path / "units" / "s1", members[3:], [], PREPROCESSING)
    write_text_shards(tmp_path / "units", tmp_path / "text")
    rows = [row for shard in open_shards(tmp_path / "text") for row in shard.rows()]
    assert [(row["transcript"], row["extra"]["pair_id"]) for row in rows] == [
        (f"{group} {correct}", f"{group}/seen") for group in ("g", "h") for correct in (True, False)
    ]


def test_samples_without_a_spelling_are_skipped(tmp_path: Path) -> None:
    samples = [
        transcribed("a", "w|I|D", phonemes=True),
        transcribed("b", None),
        transcribed("c", ""),
        transcribed("d", "With."),
    ]
    write_shard(tmp_path / "units" / "s0", samples, [], PREPROCESSING)
    write_text_shards(tmp_path / "units", tmp_path / "text")
    (shard,) = open_shards(tmp_path / "text")
    assert [row["id"] for row in shard.rows()] == ["d"]
    assert [(skip.id, skip.reason) for skip in shard.skips()] == [(name, "no spelling") for name in "abc"]


def test_text_differs_from_units_in_encoding_and_is_written_once(tmp_path: Path) -> None:
    write_shard(tmp_path / "units" / "s0", [transcribed("a", "The cat.")], [], PREPROCESSING)
    write_text_shards(tmp_path / "units", tmp_path / "text")
    before = (tmp_path / "text" / "s0" / "meta.json").stat().st_mtime_ns
    write_text_shards(tmp_path / "units", tmp_path / "text")
    assert (tmp_path / "text" / "s0" / "meta.json").stat().st_mtime_ns == before
    (text,), (units,) = open_shards(tmp_path / "text"), open_shards(tmp_path / "units")
    assert encoding_of(text)["kmeans"] != encoding_of(units)["kmeans"]
    write_shard(
        tmp_path / "others" / "s0",
        [transcribed("a", "The dog."), transcribed("b", "Else.")],
        [],
        PREPROCESSING,
    )
    with pytest.raises(UserError, match="source_shard"):
        write_text_shards(tmp_path / "others", tmp_path / "text")


def test_shards_without_transcripts_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "units" / "s0", [transcribed("a", None)], [], PREPROCESSING)
    with pytest.raises(UserError, match="no transcripts in these shards"):
        write_text_shards(tmp_path / "units", tmp_path / "text")


def test_bytes_are_utf8() -> None:
    assert utf8_bytes("aé").tolist() == [97, 0xC3, 0xA9]
