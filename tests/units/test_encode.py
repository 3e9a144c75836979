"""Manifest to shards: skips recorded with their reason, resumable, and the same bytes however often it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance
from speechscale.records.shards import open_shard, open_shards, verify_shard
from speechscale.units.encode import CodeBookTask, encode_shard, is_encoded, make_code_book, plan_shards
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.mel import MelSpec


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


def utterances(*names: str) -> list[Utterance]:
    return [Utterance(id=name, dataset="d", split="train", speaker="v") for name in names]


@pytest.fixture
def code_book(tmp_path: Path) -> Path:
    path = tmp_path / "book.safetensors"
    speech = tuple(utterances("k1", "k2", "bad"))
    task = CodeBookTask(speech, tmp_path, MelSpec(), KMeansSpec(clusters=8), path, hear_noise)
    frames, faulty = make_code_book(task)
    assert frames > 50 and faulty == 1
    return path


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_shards_hold_what_was_heard_and_name_what_was_not(tmp_path: Path, code_book: Path) -> None:
    tasks = plan_shards(
        utterances("a", "bad", "short", "b", "c"), tmp_path, code_book, tmp_path / "out", 3, hear_noise
    )
    assert [encode_shard(task) for task in tasks] == [(1, 2), (2, 0)]
    first, second = open_shards(tmp_path / "out")
    verify_shard(first.folder)
    assert [(skip["id"], skip["reason"]) for skip in first.skips()] == [
        ("bad", "corrupt"),
        ("short", "empty"),
    ]
    assert [row["id"] for row in second.rows()] == ["b", "c"]
    row = first.rows()[0]
    assert row["seconds"] == pytest.approx(
        len(next(hear_noise(utterances("a"), tmp_path))) / 16_000, abs=1e-6
    )
    for shard in (first, second):
        for units in shard.samples():
            assert units[-1] == 8 and (np.diff(units) != 0).all()


def test_an_interrupted_encoding_ends_with_the_same_bytes(tmp_path: Path, code_book: Path) -> None:
    names = utterances(*(f"u{i}" for i in range(7)))
    whole = plan_shards(names, tmp_path, code_book, tmp_path / "whole", 2, hear_noise)
    for task in whole:
        encode_shard(task)
    parts = plan_shards(names, tmp_path, code_book, tmp_path / "parts", 2, hear_noise)
    for task in (parts[2], parts[0]):
        encode_shard(task)
    (tmp_path / "parts" / ".aside-shard-00001-dead").mkdir()  # what a kill leaves behind
    for task in parts:
        if not is_encoded(task):
            encode_shard(task)
    shutil.rmtree(tmp_path / "parts" / ".aside-shard-00001-dead")
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "whole")


def test_a_shard_made_with_another_code_book_is_refused(tmp_path: Path, code_book: Path) -> None:
    names = utterances("a", "b")
    (task,) = plan_shards(names, tmp_path, code_book, tmp_path / "out", 5, hear_noise)
    encode_shard(task)
    other = tmp_path / "other.safetensors"
    spec = KMeansSpec(clusters=8, seed=1)
    make_code_book(CodeBookTask(tuple(utterances("k3", "k4")), tmp_path, MelSpec(), spec, other, hear_noise))
    (again,) = plan_shards(names, tmp_path, other, tmp_path / "out", 5, hear_noise)
    with pytest.raises(UserError, match=r"kmeans\.sha256"):
        is_encoded(again)


def test_only_faults_of_the_sample_are_skipped(tmp_path: Path, code_book: Path) -> None:
    def out_of_memory(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
        yield np.ones(16_000, dtype=np.float32)
        raise MemoryError

    (task,) = plan_shards(utterances("a", "b"), tmp_path, code_book, tmp_path / "out", 5, hear_noise)
    with pytest.raises(MemoryError):
        encode_shard(replace(task, hear=out_of_memory))
    assert not (tmp_path / "out" / "shard-00000").exists()


def test_everything_skipped_leaves_an_empty_shard_with_reasons(tmp_path: Path, code_book: Path) -> None:
    (task,) = plan_shards(utterances("bad"), tmp_path, code_book, tmp_path / "out", 5, hear_noise)
    assert encode_shard(task) == (0, 1)
    assert open_shard(task.folder).samples() == []
