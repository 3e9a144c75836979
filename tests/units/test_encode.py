"""Encoding of shards: skips with their reason, resumption, and identical bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tricks import folder_bytes, list_utterances

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance, write_manifest
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shard, open_shards
from speechscale.units.codebook import load_codebook
from speechscale.units.encode import (
    ShardTask,
    _cached_encoder,
    encode_shard,
    is_encoded,
    plan_shards,
)
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import CodebookTask, fit_codebook
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource


def load_noise(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """About a second of noise that depends on the id alone; ids with `bad` are faults, with `short` empty."""
    for utterance in utterances:
        if "bad" in utterance.id:
            yield SampleFault("corrupt", f"{utterance.id} is bad")
        elif "short" in utterance.id:
            yield np.zeros(0, dtype=np.float32)
        else:
            rng = np.random.default_rng(list(utterance.id.encode()))
            yield rng.standard_normal(16_000 + int(rng.integers(0, 999))).astype(np.float32)


def manifest(folder: Path, *names: str) -> Path:
    """A manifest in which each utterance has a duration of one second."""
    return list_utterances(folder / f"{'-'.join(names)}.jsonl", *names)


def plan(listed: Path, book: Path, out: Path, seconds: float) -> list[ShardTask]:
    return plan_shards(SpeechSource(listed, listed.parent, load_noise), book, out, seconds=seconds)


def learn(listed: Path, spec: KMeansSpec, path: Path) -> tuple[int, int]:
    encoder = MelEncoder(MelSpec()).identity
    learned = fit_codebook(CodebookTask(SpeechSource(listed, listed.parent, load_noise), encoder, spec, path))
    return learned.frames, learned.unreadable


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    path = tmp_path / "book.safetensors"
    frames, unreadable = learn(manifest(tmp_path, "k1", "k2", "bad"), KMeansSpec(clusters=8), path)
    assert frames > 50 and unreadable == 1
    return path


def test_shards_hold_units_and_name_the_skipped_utterances(tmp_path: Path, codebook: Path) -> None:
    tasks = plan(manifest(tmp_path, "a", "bad", "short", "b", "c"), codebook, tmp_path / "out", 3)
    assert [encode_shard(task) for task in tasks] == [(1, 2), (2, 0)]
    first, second = open_shards(tmp_path / "out")
    verify_shard(first.folder)
    assert [(skip.id, skip.reason) for skip in first.skips()] == [
        ("bad", "corrupt"),
        ("short", "too short"),
    ]
    assert [row["id"] for row in second.rows()] == ["b", "c"]
    row = first.rows()[0]
    assert row["seconds"] == pytest.approx(
        len(next(load_noise([Utterance(id="a", dataset="d", split="train")], tmp_path))) / 16_000, abs=1e-6
    )
    for shard in (first, second):
        durations = shard.sample_durations()
        assert durations is not None
        for units, frames, row in zip(shard.samples(), durations, shard.rows(), strict=True):
            assert units[-1] == 8 and (np.diff(units) != 0).all()
            assert frames.sum() == np.ceil(row["seconds"] * 25) and frames[-1] == 0


def test_interrupted_encoding_ends_with_the_same_bytes(tmp_path: Path, codebook: Path) -> None:
    names = manifest(tmp_path, *(f"u{i}" for i in range(7)))
    whole = plan(names, codebook, tmp_path / "whole", 2)
    for task in whole:
        encode_shard(task)
    parts = plan(names, codebook, tmp_path / "parts", 2)
    for task in (parts[2], parts[0]):
        encode_shard(task)
    (tmp_path / "parts" / ".staging-shard-00001-dead").mkdir()  # as after a kill
    for task in parts:
        if not is_encoded(task):
            encode_shard(task)
    shutil.rmtree(tmp_path / "parts" / ".staging-shard-00001-dead")
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "whole")


def test_shard_of_another_codebook_is_refused(tmp_path: Path, codebook: Path) -> None:
    names = manifest(tmp_path, "a", "b")
    (task,) = plan(names, codebook, tmp_path / "out", 5)
    encode_shard(task)
    other = tmp_path / "other.safetensors"
    learn(manifest(tmp_path, "k3", "k4"), KMeansSpec(clusters=8, seed=1), other)
    (again,) = plan(names, other, tmp_path / "out", 5)
    with pytest.raises(UserError, match=r"kmeans\.sha256"):
        is_encoded(again)


def test_errors_other_than_sample_faults_are_raised(tmp_path: Path, codebook: Path) -> None:
    def out_of_memory(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
        yield np.ones(16_000, dtype=np.float32)
        raise MemoryError

    (task,) = plan(manifest(tmp_path, "a", "b"), codebook, tmp_path / "out", 5)
    with pytest.raises(MemoryError):
        encode_shard(replace(task, load_waveforms=out_of_memory))
    assert not (tmp_path / "out" / "shard-00000").exists()


def test_shard_written_by_another_worker_in_the_meantime_is_accepted(tmp_path: Path, codebook: Path) -> None:
    """A worker that was given up as lost, on a machine that was only disconnected, may finish after all."""
    (task,) = plan(manifest(tmp_path, "a", "b"), codebook, tmp_path / "out", 5)

    def load_after_the_other_worker(
        utterances: Sequence[Utterance], root: Path
    ) -> Iterator[np.ndarray | SampleFault]:
        encode_shard(task)
        yield from load_noise(utterances, root)

    assert encode_shard(replace(task, load_waveforms=load_after_the_other_worker)) == (2, 0)
    (other,) = plan(manifest(tmp_path, "a", "c"), codebook, tmp_path / "out", 5)
    with pytest.raises(UserError, match="manifest_sha256"):
        encode_shard(other)


def test_encoder_is_loaded_once_per_process_and_settings(tmp_path: Path, codebook: Path) -> None:
    loaded = []
    for task in plan(manifest(tmp_path, *"abcdef"), codebook, tmp_path / "out", 2):
        encode_shard(task)
        loaded.append(_cached_encoder(load_codebook(task.codebook).encoder, task.compute))
    assert len(loaded) == 3 and len({id(encoder) for encoder in loaded}) == 1
    smaller = replace(task.compute, batch_seconds=1.0)
    assert _cached_encoder(loaded[0].identity, smaller) is not loaded[0]


def test_shard_without_usable_utterances_is_empty_with_reasons(tmp_path: Path, codebook: Path) -> None:
    (task,) = plan(manifest(tmp_path, "bad"), codebook, tmp_path / "out", 5)
    assert encode_shard(task) == (0, 1)
    assert open_shard(task.folder).samples() == []


def test_rows_record_row_column_and_channel_of_the_source(tmp_path: Path, codebook: Path) -> None:
    listed = tmp_path / "inside.jsonl"
    inside = Utterance(
        id="a", dataset="d", split="train", audio="x/t.parquet", row=3, column="b", channel=1, duration=1.0
    )
    write_manifest([inside], listed)
    (task,) = plan(listed, codebook, tmp_path / "out", 5)
    encode_shard(task)
    (row,) = open_shard(task.folder).rows()
    assert (row["source_audio"], row["source_row"], row["source_column"]) == ("x/t.parquet", 3, "b")
    assert row["source_channel"] == 1
    assert "extra" not in row
