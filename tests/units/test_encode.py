"""Manifest to shards: skips recorded with their reason, resumable, and the same bytes however often it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance, write_manifest
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shard, open_shards
from speechscale.units.encode import (
    ShardTask,
    _encoder,
    encode_shard,
    is_encoded,
    plan_shards,
)
from speechscale.units.kmeans import KMeansSpec, load_code_book
from speechscale.units.learn import CodeBookTask, make_code_book
from speechscale.units.mel import MelEncoder, MelSpec


def hear_noise(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """A second or so of noise that depends on the id alone; ids with `bad` are faults."""
    for utterance in utterances:
        if "bad" in utterance.id:
            yield SampleFault("corrupt", f"{utterance.id} is bad")
        elif "short" in utterance.id:
            yield np.zeros(0, dtype=np.float32)
        else:
            rng = np.random.default_rng(list(utterance.id.encode()))
            yield rng.standard_normal(16_000 + int(rng.integers(0, 999))).astype(np.float32)


def manifest(folder: Path, *names: str) -> Path:
    """Each utterance is said to last a second."""
    path = folder / f"{'-'.join(names)}.jsonl"
    write_manifest(
        (Utterance(id=n, dataset="d", split="train", speaker="v", duration=1.0) for n in names), path
    )
    return path


def plan(listed: Path, book: Path, out: Path, seconds: float) -> list[ShardTask]:
    return plan_shards(listed, listed.parent, book, out, hear_noise, seconds=seconds)


def learn(listed: Path, spec: KMeansSpec, path: Path) -> tuple[int, int]:
    encoder = MelEncoder(MelSpec()).identity
    learnt = make_code_book(CodeBookTask(listed, listed.parent, encoder, spec, path, hear_noise))
    return learnt.frames, learnt.faulty


@pytest.fixture
def code_book(tmp_path: Path) -> Path:
    path = tmp_path / "book.safetensors"
    frames, faulty = learn(manifest(tmp_path, "k1", "k2", "bad"), KMeansSpec(clusters=8), path)
    assert frames > 50 and faulty == 1
    return path


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_shards_hold_what_was_heard_and_name_what_was_not(tmp_path: Path, code_book: Path) -> None:
    tasks = plan(manifest(tmp_path, "a", "bad", "short", "b", "c"), code_book, tmp_path / "out", 3)
    assert [encode_shard(task) for task in tasks] == [(1, 2), (2, 0)]
    first, second = open_shards(tmp_path / "out")
    verify_shard(first.folder)
    assert [(skip["id"], skip["reason"]) for skip in first.skips()] == [
        ("bad", "corrupt"),
        ("short", "too short"),
    ]
    assert [row["id"] for row in second.rows()] == ["b", "c"]
    row = first.rows()[0]
    assert row["seconds"] == pytest.approx(
        len(next(hear_noise([Utterance(id="a", dataset="d", split="train")], tmp_path))) / 16_000, abs=1e-6
    )
    for shard in (first, second):
        durations = shard.sample_durations()
        assert durations is not None
        for units, frames, row in zip(shard.samples(), durations, shard.rows(), strict=True):
            assert units[-1] == 8 and (np.diff(units) != 0).all()
            assert frames.sum() == np.ceil(row["seconds"] * 25) and frames[-1] == 0


def test_an_interrupted_encoding_ends_with_the_same_bytes(tmp_path: Path, code_book: Path) -> None:
    names = manifest(tmp_path, *(f"u{i}" for i in range(7)))
    whole = plan(names, code_book, tmp_path / "whole", 2)
    for task in whole:
        encode_shard(task)
    parts = plan(names, code_book, tmp_path / "parts", 2)
    for task in (parts[2], parts[0]):
        encode_shard(task)
    (tmp_path / "parts" / ".staging-shard-00001-dead").mkdir()  # what a kill leaves behind
    for task in parts:
        if not is_encoded(task):
            encode_shard(task)
    shutil.rmtree(tmp_path / "parts" / ".staging-shard-00001-dead")
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "whole")


def test_a_shard_made_with_another_code_book_is_refused(tmp_path: Path, code_book: Path) -> None:
    names = manifest(tmp_path, "a", "b")
    (task,) = plan(names, code_book, tmp_path / "out", 5)
    encode_shard(task)
    other = tmp_path / "other.safetensors"
    learn(manifest(tmp_path, "k3", "k4"), KMeansSpec(clusters=8, seed=1), other)
    (again,) = plan(names, other, tmp_path / "out", 5)
    with pytest.raises(UserError, match=r"kmeans\.sha256"):
        is_encoded(again)


def test_only_faults_of_the_sample_are_skipped(tmp_path: Path, code_book: Path) -> None:
    def out_of_memory(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
        yield np.ones(16_000, dtype=np.float32)
        raise MemoryError

    (task,) = plan(manifest(tmp_path, "a", "b"), code_book, tmp_path / "out", 5)
    with pytest.raises(MemoryError):
        encode_shard(replace(task, load_waveforms=out_of_memory))
    assert not (tmp_path / "out" / "shard-00000").exists()


def test_a_shard_that_another_worker_made_meanwhile_is_done(tmp_path: Path, code_book: Path) -> None:
    """A worker that was thought lost, on a machine that was only cut off, may finish after all."""
    (task,) = plan(manifest(tmp_path, "a", "b"), code_book, tmp_path / "out", 5)

    def hear_late(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
        encode_shard(task)
        yield from hear_noise(utterances, root)

    assert encode_shard(replace(task, load_waveforms=hear_late)) == (2, 0)
    (other,) = plan(manifest(tmp_path, "a", "c"), code_book, tmp_path / "out", 5)
    with pytest.raises(UserError, match="manifest_sha256"):
        encode_shard(other)


def test_an_encoder_is_loaded_once_a_process_and_setting(tmp_path: Path, code_book: Path) -> None:
    loaded = []
    for task in plan(manifest(tmp_path, *"abcdef"), code_book, tmp_path / "out", 2):
        encode_shard(task)
        loaded.append(_encoder(load_code_book(task.code_book).encoder, task.computing))
    assert len(loaded) == 3 and len({id(encoder) for encoder in loaded}) == 1
    smaller = replace(task.computing, batch_seconds=1.0)
    assert _encoder(loaded[0].identity, smaller) is not loaded[0]


def test_everything_skipped_leaves_an_empty_shard_with_reasons(tmp_path: Path, code_book: Path) -> None:
    (task,) = plan(manifest(tmp_path, "bad"), code_book, tmp_path / "out", 5)
    assert encode_shard(task) == (0, 1)
    assert open_shard(task.folder).samples() == []


def test_rows_tell_where_in_a_file_an_utterance_lies(tmp_path: Path, code_book: Path) -> None:
    listed = tmp_path / "inside.jsonl"
    inside = Utterance(
        id="a", dataset="d", split="train", audio="x/t.parquet", row=3, column="b", channel=1, duration=1.0
    )
    write_manifest([inside], listed)
    (task,) = plan(listed, code_book, tmp_path / "out", 5)
    encode_shard(task)
    (row,) = open_shard(task.folder).rows()
    assert (row["source_audio"], row["source_row"], row["source_column"]) == ("x/t.parquet", 3, "b")
    assert row["source_channel"] == 1
    assert "extra" not in row
