"""Shards: what is read equals what was written, in the released format, and damage is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import (
    Sample,
    Skip,
    open_shard,
    open_shards,
    require_same_encoding,
    write_shard,
)

MADE = {"vocab_size": 12, "eos_token": 10, "pad_token": 11, "kmeans": {"sha256": "k"}}


def sample(name: str, units: list[int]) -> Sample:
    return Sample(name, np.array([*units, 10], dtype=np.int16), 0.04 * len(units), {"speaker": "v"})


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, contents: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("shards") / "shard-00000"
    write_shard(folder, [sample(f"u{i}", units) for i, units in enumerate(contents)], [], MADE)
    verify_shard(folder)
    shard = open_shard(folder)
    assert [list(units) for units in shard.samples()] == [[*units, 10] for units in contents]
    assert [row["id"] for row in shard.rows()] == [f"u{i}" for i in range(len(contents))]


def test_files_are_those_of_the_released_schema(tmp_path: Path) -> None:
    folder = tmp_path / "shard-00000"
    write_shard(folder, [sample("a", [1, 2]), sample("b", [3])], [Skip("c", "corrupt", "why")], MADE)
    assert sorted(file.name for file in folder.iterdir()) == [
        "audio.bin",
        "audio.len",
        "meta.json",
        "samples.jsonl",
        "skips.jsonl",
    ]
    assert np.fromfile(folder / "audio.bin", dtype="<i2").tolist() == [1, 2, 10, 3, 10]
    assert np.fromfile(folder / "audio.len", dtype="<i8").tolist() == [3, 2]
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["schema_version"], meta["num_samples"], meta["num_audio_steps"], meta["num_skipped"]) == (
        2,
        2,
        5,
        1,
    )
    assert meta["seconds"] == pytest.approx(0.12)
    assert json.loads((folder / "skips.jsonl").read_text()) == {
        "id": "c",
        "reason": "corrupt",
        "detail": "why",
    }


def test_durations_are_stored_next_to_the_released_files(tmp_path: Path) -> None:
    with_durations = replace(sample("a", [1, 2]), durations=np.array([4, 1, 0]))
    write_shard(tmp_path / "shard-00000", [with_durations, replace(with_durations, id="b")], [], MADE)
    verify_shard(tmp_path / "shard-00000")
    shard = open_shard(tmp_path / "shard-00000")
    assert np.fromfile(shard.folder / "durations.bin", dtype="<i4").tolist() == [4, 1, 0, 4, 1, 0]
    assert [frames.tolist() for frames in shard.sample_durations() or []] == [[4, 1, 0], [4, 1, 0]]
    for wrong in ([4, 1], [4, 1, 2], [4, 0, 0]):
        with pytest.raises(UserError, match="one duration of a frame or more for each unit"):
            write_shard(tmp_path / "x", [replace(with_durations, durations=np.array(wrong))], [], MADE)


def test_units_outside_the_vocabulary_and_missing_eos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sample a: units span"):
        write_shard(tmp_path / "x", [sample("a", [12])], [], MADE)
    open_end = Sample("a", np.array([1, 2], dtype=np.int16), 0.1, {})
    with pytest.raises(UserError, match="must end in EOS"):
        write_shard(tmp_path / "x", [open_end], [], MADE)
    assert not (tmp_path / "x").exists()


def test_changed_and_truncated_units_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "shard-00000"
    write_shard(folder, [sample("a", [1, 2])], [], MADE)
    (folder / "audio.bin").write_bytes(np.array([1, 3, 10], dtype="<i2").tobytes())
    open_shard(folder)  # the sizes agree, and opening does not read the units
    with pytest.raises(UserError, match=r"audio\.bin: missing or changed"):
        verify_shard(folder)
    (folder / "audio.bin").write_bytes(b"\0\0")
    with pytest.raises(UserError, match="encode it again"):
        open_shard(folder)


def test_unfinished_shards_are_ignored_and_different_encodings_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard-00000", [sample("a", [1])], [], MADE)
    write_shard(tmp_path / ".staging-shard-00001", [sample("b", [1])], [], MADE)
    assert len(open_shards(tmp_path)) == 1
    write_shard(tmp_path / "shard-00001", [sample("b", [1])], [], MADE | {"kmeans": {"sha256": "other"}})
    with pytest.raises(UserError, match=r"kmeans\.sha256: found 'other', wanted 'k'"):
        open_shards(tmp_path)


def test_missing_shard_of_a_plan_is_reported(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard-00000", [sample("a", [1])], [], MADE | {"plan_num_shards": 2})
    with pytest.raises(UserError, match="1 of 2 shards are here"):
        open_shards(tmp_path)


def test_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no shards of units here"):
        open_shards(tmp_path)


def test_different_encodings_are_refused_with_their_fields(tmp_path: Path) -> None:
    for name, changes in {
        "a": {},
        "b": {"manifest_sha256": "other", "num_assigned_records": 7},  # which utterances, not how
        "c": {"kmeans": {"sha256": "other"}},
    }.items():
        write_shard(tmp_path / name, [sample("u", [1])], [], {**MADE, **changes})
    a, b, c = (open_shard(tmp_path / name) for name in "abc")
    require_same_encoding(a, b)
    with pytest.raises(UserError) as caught:
        require_same_encoding(c, a)
    assert str(caught.value) == (
        f"{c.folder} and {a.folder} were encoded differently: kmeans.sha256: found 'other', wanted 'k'. "
        "Encode one of them again as the other was, or leave it out."
    )
