"""Shards of text from shards of speech: the same utterances and seconds, as characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import Sample, Skip, encoding_of, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.tokens.text import CHARACTERS, TEXT_VOCABULARY, characters, write_subset, write_text

MADE = {
    "vocab_size": 12,
    "eos_token": 10,
    "pad_token": 11,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "code_book", "sha256": "00"},
    "collapsed": True,
}


def spoken(name: str, text: str | None, seconds: float = 1.5, **row: Any) -> Sample:
    row = {"speaker": "v", "dataset": "prose", "transcript": text, **row}
    return Sample(name, np.array([1, 2, 10]), seconds, row, np.array([3, 1, 0]))


def label(pair: str, correct: bool, group: str = "g") -> dict[str, Any]:
    return {"task": "t", "group_id": group, "pair_id": pair, "correct": correct}


def test_utterances_become_their_characters(tmp_path: Path) -> None:
    samples = [spoken("a", "The cat. Zoë."), spoken("b", "A dog.", 2.25, extra={"note": "kept"})]
    write_shard(tmp_path / "units" / "s0", samples, [Skip("c", "too short", "no frame")], MADE)
    write_shard(tmp_path / "units" / "s1", [spoken("d", "Fish.")], [], MADE)
    write_text(tmp_path / "units", tmp_path / "text")
    first, second = open_shards(tmp_path / "text")
    assert [bytes(units[:-1].astype(np.uint8)).decode() for units in first.samples()] == [
        "The cat. Zoë.",
        "A dog.",
    ]
    assert all(units[-1] == CHARACTERS == first.preprocessing["eos_token"] for units in first.samples())
    assert first.preprocessing["vocab_size"] == TEXT_VOCABULARY == 258
    assert first.seconds == 3.75 and second.seconds == 1.5 and first.durations is None
    assert first.rows()[1]["extra"] == {"note": "kept"} and first.skips()[0]["id"] == "c"
    verify_shard(first.folder)


def test_of_many_voices_one_is_kept_for_they_read_the_same(tmp_path: Path) -> None:
    members = [
        spoken(
            f"{group}{pair}{correct}", f"{group} {correct}", extra=label(f"{group}/{pair}", correct, group)
        )
        for group in ("g", "h")
        for pair in ("seen", "unseen")
        for correct in (True, False)
    ]
    write_shard(tmp_path / "units" / "s0", members[:3], [], MADE)  # a group that lies in two shards
    write_shard(tmp_path / "units" / "s1", members[3:], [], MADE)
    write_text(tmp_path / "units", tmp_path / "text")
    rows = [row for shard in open_shards(tmp_path / "text") for row in shard.rows()]
    assert [(row["transcript"], row["extra"]["pair_id"]) for row in rows] == [
        (f"{group} {correct}", f"{group}/seen") for group in ("g", "h") for correct in (True, False)
    ]


def test_sounds_without_a_spelling_are_skipped_by_name(tmp_path: Path) -> None:
    samples = [spoken("a", "w|I|D", phonemes=True), spoken("b", None), spoken("c", ""), spoken("d", "With.")]
    write_shard(tmp_path / "units" / "s0", samples, [], MADE)
    write_text(tmp_path / "units", tmp_path / "text")
    (shard,) = open_shards(tmp_path / "text")
    assert [row["id"] for row in shard.rows()] == ["d"]
    assert [(skip["id"], skip["reason"]) for skip in shard.skips()] == [
        (name, "no spelling") for name in "abc"
    ]


def test_a_text_is_told_from_units_and_stands_once_made(tmp_path: Path) -> None:
    write_shard(tmp_path / "units" / "s0", [spoken("a", "The cat.")], [], MADE)
    write_text(tmp_path / "units", tmp_path / "text")
    before = (tmp_path / "text" / "s0" / "meta.json").stat().st_mtime_ns
    write_text(tmp_path / "units", tmp_path / "text")
    assert (tmp_path / "text" / "s0" / "meta.json").stat().st_mtime_ns == before
    (text,), (units,) = open_shards(tmp_path / "text"), open_shards(tmp_path / "units")
    assert encoding_of(text)["kmeans"] != encoding_of(units)["kmeans"]
    write_shard(tmp_path / "others" / "s0", [spoken("a", "The dog."), spoken("b", "Else.")], [], MADE)
    with pytest.raises(UserError, match="source_shard"):
        write_text(tmp_path / "others", tmp_path / "text")


def test_shards_that_do_not_say_what_was_said(tmp_path: Path) -> None:
    write_shard(tmp_path / "units" / "s0", [spoken("a", None)], [], MADE)
    with pytest.raises(UserError, match="no transcripts in these shards"):
        write_text(tmp_path / "units", tmp_path / "text")


def test_one_dataset_of_a_corpus(tmp_path: Path) -> None:
    """Its shards are trained on and tested like the whole: how it was encoded has not changed."""
    stories = [spoken(f"s{i}", "x", dataset="stories") for i in range(3)]
    write_shard(tmp_path / "units" / "s0", [spoken("p0", "x"), *stories], [Skip("q", "r", "d")], MADE)
    write_shard(tmp_path / "units" / "s1", [spoken("p1", "x")], [], MADE)  # nothing of it here
    write_subset(tmp_path / "units", tmp_path / "stories", "stories")
    shards = open_shards(tmp_path / "stories")
    assert [row["id"] for shard in shards for row in shard.rows()] == ["s0", "s1", "s2"]
    assert shards[0].seconds == 4.5 and shards[0].sample_durations()[0].tolist() == [3, 1, 0]
    assert encoding_of(shards[0]) == encoding_of(open_shards(tmp_path / "units")[0])
    windows = Windows(shards, context=4)
    assert windows.count == 2 and windows.window(1).tolist() == [2, 10, 1, 2, 10]
    with pytest.raises(UserError, match="no utterance of 'poems' here; found prose, stories"):
        write_subset(tmp_path / "units", tmp_path / "poems", "poems")


def test_a_character_is_a_byte() -> None:
    assert characters("aé").tolist() == [97, 0xC3, 0xA9]
