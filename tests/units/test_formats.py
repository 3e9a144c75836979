"""Unit files of other toolkits: conversion to shards and back, and errors that name the broken line."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import Shard, Skip, open_shards
from speechscale.units.formats import UnitFileInfo, read_units, write_units

# As quantize_with_kmeans (fairseq), transcribe (textlesslib), extract_features and prepare_tokens (slamkit) write it.
FAIRSEQ = "61-70968-0000.flac|71 71 93 82 82 82\n61 70968|0001.flac|3 3\n"
TEXTLESS = "61-70968-0000\t71 93 82\n61 70968 0001\t3\n"
DURATIONS = "61-70968-0000\t2 1 3\n61 70968 0001\t2\n"
SLAMKIT = (
    '{"units": [71, 93, 82], "duration": [2, 1, 3], "file_name": "../audio/a.flac"}\n'
    '{"units": [3], "duration": [2], "file_name": "../audio/b.flac"}\n'
)
TOKENS = '{"file_name": "../audio/a.flac", "audio_repr": "<Un71><Un71><Un93>"}\n'


def read(path: Path, text: str, format: str, **info: object) -> list[Shard]:
    path.write_text(text, encoding="utf-8")
    out = path.parent / "shards"
    read_units(path, UnitFileInfo(format, 100, **info), out, 1000)  # type: ignore[arg-type]
    shards = open_shards(out)
    for shard in shards:
        verify_shard(shard.folder)
    return shards


def content(shards: list[Shard]) -> list[tuple[str, list[int], list[int] | None, float | None]]:
    found = []
    for shard in shards:
        durations = shard.sample_durations() or [None] * len(shard.lengths)
        for row, units, frames in zip(shard.rows(), shard.samples(), durations, strict=True):
            durations = None if frames is None else frames.tolist()
            found.append((row["id"], units.tolist(), durations, row.get("seconds")))
    return found


def test_fairseq_at_a_known_frame_rate(tmp_path: Path) -> None:
    shards = read(tmp_path / "units.txt", FAIRSEQ, "fairseq", frame_rate=25.0, encoder="HuBERT 25 Hz")
    assert content(shards) == [
        ("61-70968-0000.flac", [71, 93, 82, 100], [2, 1, 3, 0], 0.24),
        ("61 70968|0001.flac", [3, 100], [2, 0], 0.08),
    ]
    preprocessing = shards[0].preprocessing
    assert shards[0].seconds == pytest.approx(0.32)
    assert preprocessing["unit_extractor"] == {"name": "HuBERT 25 Hz"}
    assert (preprocessing["vocab_size"], preprocessing["eos_token"]) == (102, 100)


def test_unknown_durations_and_seconds_stay_unknown(tmp_path: Path) -> None:
    shards = read(tmp_path / "units.txt", FAIRSEQ, "fairseq")
    assert content(shards)[0] == ("61-70968-0000.flac", [71, 93, 82, 100], None, None)
    assert shards[0].seconds is None and shards[0].durations is None


def test_repeats_are_kept_on_request(tmp_path: Path) -> None:
    shards = read(tmp_path / "units.txt", FAIRSEQ, "fairseq", keep_repeats=True, frame_rate=50.0)
    assert content(shards)[1] == ("61 70968|0001.flac", [3, 3, 100], [1, 1, 0], 0.04)
    assert shards[0].preprocessing["collapsed"] is False


def test_missing_names_become_line_numbers(tmp_path: Path) -> None:
    """fairseq --hide-fname; textlesslib without --preserve_name."""
    assert content(read(tmp_path / "u.txt", "1 2\n\n3\n", "fairseq"))[1] == ("u:3", [3, 100], None, None)


@pytest.mark.parametrize("durations_text", [DURATIONS, None])
def test_textless_with_and_without_durations(tmp_path: Path, durations_text: str | None) -> None:
    if durations_text:
        (tmp_path / "x.durations").write_text(durations_text)
    shards = read(tmp_path / "x.units", TEXTLESS, "textless", frame_rate=25.0 if durations_text else None)
    durations = ([2, 1, 3, 0], 0.24) if durations_text else (None, None)
    assert content(shards)[0] == ("61-70968-0000", [71, 93, 82, 100], *durations)


def test_slamkit_features_and_tokens(tmp_path: Path) -> None:
    shards = read(tmp_path / "features.jsonl", SLAMKIT, "slamkit", frame_rate=25.0)
    assert content(shards)[0] == ("../audio/a.flac", [71, 93, 82, 100], [2, 1, 3, 0], 0.24)
    (tmp_path / "b").mkdir()
    tokens = read(tmp_path / "b" / "tokens.jsonl", TOKENS, "slamkit-tokens")
    assert content(tokens) == [("../audio/a.flac", [71, 93, 100], None, None)]


def test_durations_of_equal_neighbours_add_up(tmp_path: Path) -> None:
    line = '{"units": [5, 5, 6, 5], "duration": [2, 3, 1, 1], "file_name": "a"}\n'
    assert content(read(tmp_path / "f.jsonl", line, "slamkit"))[0][1:3] == ([5, 6, 5, 100], [5, 1, 1, 0])


def test_empty_utterances_are_skipped_and_recorded(tmp_path: Path) -> None:
    (shard,) = read(tmp_path / "units.txt", "a|1 2\nb|\nc|3\n", "fairseq")
    assert [row["id"] for row in shard.rows()] == ["a", "c"]
    assert shard.skips() == [Skip("b", "empty", "units.txt:2: no units")]


@pytest.mark.parametrize(
    "format, line, message",
    [
        ("fairseq", "b|1 100", "units span 1 to 100, 100 clusters allow 0 to 99"),
        ("fairseq", "b|-1", "units span -1"),
        ("fairseq", "b|1 x", "invalid literal"),
        ("fairseq", "b|1 2.0", "invalid literal"),
        ("fairseq", "b|1_0", "found '1_0'"),
        ("fairseq", "b|99999999999999999999", "too large|too big"),
        ("fairseq", "a|1", "the id 'a' occurs a second time"),
        ("textless", "b\t1 2 3 four", "invalid literal"),
        ("slamkit", '{"units": [1, 2]', "delimiter"),
        ("slamkit", "[1, 2]", r"found '\[1, 2\]'"),
        ("slamkit", '{"units": [1, 2], "duration": [1, 1]}', "no field 'file_name'"),
        ("slamkit", '{"file_name": "b"}', "no field 'units'"),
        ("slamkit", '{"units": [1, 2], "duration": [1], "file_name": "b"}', "2 units have 1 durations"),
        ("slamkit", '{"units": [1, 2], "duration": [1, 0], "file_name": "b"}', "below 1 frame"),
        ("slamkit", '{"units": [1, 2.5], "file_name": "b"}', "found"),
        ("slamkit", '{"units": [[1], [2]], "file_name": "b"}', "found"),
        ("slamkit", '{"units": "12", "file_name": "b"}', "found 12"),
        ("slamkit", '{"units": [1], "file_name": 3}', "file_name is 3"),
        ("slamkit-tokens", '{"audio_repr": "<Un1>hello<Un2>", "file_name": "b"}', "invalid literal"),
        ("slamkit-tokens", '{"audio_repr": "<St1><Hu2>", "file_name": "b"}', "found"),
        ("slamkit-tokens", '{"audio_repr": null, "file_name": "b"}', "found None"),
    ],
)
def test_broken_line_is_named_and_no_file_is_left(
    tmp_path: Path, format: str, line: str, message: str
) -> None:
    first = {
        "fairseq": "a|1 2",
        "textless": "a\t1 2",
        "slamkit": '{"units": [1, 2], "file_name": "a"}',
        "slamkit-tokens": '{"audio_repr": "<Un1><Un2>", "file_name": "a"}',
    }[format]
    with pytest.raises(UserError, match=rf"units:2: .*({message}).*wanted: "):
        read(tmp_path / "units", f"{first}\n{line}\n", format)
    assert [path.name for path in tmp_path.iterdir()] == ["units"]


def test_durations_file_that_does_not_match_the_units_is_refused(tmp_path: Path) -> None:
    for durations_text, message in [
        ("61-70968-0000\t2 1 3\n", "ends before line 2"),
        (DURATIONS + "x\t1\n", "has more lines"),
        (DURATIONS.replace("0000", "0009"), r"x\.units:1: x\.durations has the name '61-70968-0009'"),
    ]:
        (tmp_path / "x.durations").write_text(durations_text)
        with pytest.raises(UserError, match=message):
            read(tmp_path / "x.units", TEXTLESS, "textless")


def test_frame_rate_for_collapsed_units_is_refused(tmp_path: Path) -> None:
    """Run lengths are lost, so a frame rate would give wrong durations."""
    line = "a|" + " ".join(str(i % 7) for i in range(2000)) + "\n"
    with pytest.raises(
        UserError, match="no unit lasts longer than one frame, so repeats were removed and durations are lost"
    ):
        read(tmp_path / "units.txt", line, "fairseq", frame_rate=25.0)
    assert len(read(tmp_path / "units.txt", line, "fairseq")) == 1


def test_unusable_files_formats_and_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no format 'farseq' \(did you mean 'fairseq'\?\)"):
        read(tmp_path / "u", FAIRSEQ, "farseq")
    with pytest.raises(UserError, match="holds no units"):
        read(tmp_path / "u", "", "fairseq")
    with pytest.raises(UserError, match="no such file"):
        read_units(tmp_path / "none", UnitFileInfo("fairseq", 10), tmp_path / "x", 10)
    (tmp_path / "binary").write_bytes(b"a|\xff\xfe")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_units(tmp_path / "binary", UnitFileInfo("fairseq", 10), tmp_path / "x", 10)
    (tmp_path / "u").write_text(FAIRSEQ)
    with pytest.raises(UserError, match="at most 32768"):
        read_units(tmp_path / "u", UnitFileInfo("fairseq", 32_767), tmp_path / "x", 10)
    shards = read(tmp_path / "u", FAIRSEQ, "fairseq")
    with pytest.raises(
        UserError, match="does not hold the durations of its units, so frames cannot be written"
    ):
        write_units(shards, "fairseq", tmp_path / "x", expand=True)
    with pytest.raises(UserError, match="was encoded otherwise"):
        read_units(tmp_path / "u", UnitFileInfo("fairseq", 99), tmp_path / "shards", 1000)
    read_units(
        tmp_path / "u", UnitFileInfo("fairseq", 100), tmp_path / "shards", 1000
    )  # exists: nothing to do


def test_id_with_a_line_break_is_refused(tmp_path: Path) -> None:
    shards = read(tmp_path / "f.jsonl", '{"units": [1], "file_name": "a\\nb"}', "slamkit")
    for format in ("fairseq", "textless"):
        with pytest.raises(UserError, match="line break"):
            write_units(shards, format, tmp_path / "x")


def test_shards_are_closed_by_number_of_units_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "u").write_text("".join(f"n{i}|{i % 9} 9\n" for i in range(50)))
    read_units(tmp_path / "u", UnitFileInfo("fairseq", 10), tmp_path / "shards", 30)
    shards = open_shards(tmp_path / "shards")
    assert [len(shard.lengths) for shard in shards] == [10] * 5
    assert [row["id"] for shard in shards for row in shard.rows()] == [f"n{i}" for i in range(50)]


names = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), min_size=1, max_size=8
)
speech = st.dictionaries(names, st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=4)


@pytest.mark.parametrize("format", ["fairseq", "textless", "slamkit"])
@given(utterances=speech)
@settings(max_examples=15, deadline=None)
def test_exported_units_are_imported_unchanged(
    tmp_path_factory: pytest.TempPathFactory, format: str, utterances: dict[str, list[int]]
) -> None:
    """Frames to shards to a file to shards: ids, units and run lengths are the same, and give the frames again."""
    folder = tmp_path_factory.mktemp("units")
    lines = [
        json.dumps({"units": units, "duration": [1] * len(units), "file_name": name})
        for name, units in utterances.items()
    ]
    first = read(folder / "source.jsonl", "\n".join(lines), "slamkit", frame_rate=25.0)
    assert [(units[:-1], frames and frames[:-1]) for _, units, frames, _ in content(first)] == [
        ([unit for unit, _ in groupby(units)], [len(list(run)) for _, run in groupby(units)])
        for units in utterances.values()
    ]
    back = folder / "back"
    back.mkdir()
    expand = format == "fairseq"  # which has no other place for run lengths
    write_units(first, format, back / "x.units", expand=expand)
    read_units(back / "x.units", UnitFileInfo(format, 100, frame_rate=25.0), back / "shards", 10)
    again = content(open_shards(back / "shards"))
    assert again == content(first)
    assert [np.repeat(units, durations).tolist() for _, units, durations, _ in again] == list(
        utterances.values()
    )
