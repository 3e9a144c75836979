"""Encoding of a manifest: failed shards are reported and retried, the others are completed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tricks import folder_bytes, tries

from speechscale.errors import UserError
from speechscale.jobs.encode import encode_shards, encoding_status
from speechscale.records.seal import exclusive_lock
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shards
from speechscale.units.encode import ShardTask, encode_shard
from speechscale.workers.local import LocalBackend

Plan = Callable[..., list[ShardTask]]


def test_killed_worker_does_not_change_the_shards(plan: Plan, tmp_path: Path) -> None:
    names = ("a", "kill1", "b", "c", "d", "kill2", "e")
    tasks = plan("killed", *names)
    assert encode_shards(tasks, LocalBackend(2)).samples == 7
    assert (tries(tmp_path, "kill1"), tries(tmp_path, "kill2")) == (2, 2)
    encode_shards(plan("quiet", *names), LocalBackend(2))  # now no worker is killed
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "quiet")


def test_failed_shard_is_reported_and_made_by_the_next_call(plan: Plan, tmp_path: Path) -> None:
    """Out of memory three times: the shard is missing, and none of its utterances becomes a skip."""
    names = ("a", "bad1", "oom", "b", "c", "d")
    tasks = plan("out", *names)
    with pytest.raises(
        UserError,
        match=r"1 of 3 shards failed: shard-00001 \(out of memory: no room\)\. The other shards are complete",
    ):
        encode_shards(tasks, LocalBackend(2))
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("shard-*")) == ["shard-00000", "shard-00002"]
    assert json.loads((out / "failures.json").read_text()) == {"shard-00001": "out of memory: no room"}
    status = encoding_status(tasks)
    assert (status.completed.shards, status.completed.samples, len(status.remaining)) == (2, 3, 1)
    assert dict(status.skip_reasons) == {"corrupt": 1}
    assert status.failures == {"shard-00001": "out of memory: no room"}
    assert encode_shards(tasks, LocalBackend(2)).samples == 5
    assert not (out / "failures.json").exists()
    for shard in open_shards(out):
        verify_shard(shard.folder)
    assert [skip.id for shard in open_shards(out) for skip in shard.skips()] == ["bad1"]


def test_programming_error_in_one_shard_does_not_stop_the_others(plan: Plan, tmp_path: Path) -> None:
    tasks = plan("out", "a", "b", "mistake", "c", "d", "e")
    with pytest.raises(
        UserError, match=r"shard-00001 \(error: ZeroDivisionError: a mistake \(tricks\.py:\d+\)\)"
    ):
        encode_shards(tasks, LocalBackend(1))
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2


def test_smaller_batches_give_the_same_bytes(plan: Plan, tmp_path: Path) -> None:
    """A retry with smaller batches relies on this."""
    for task in plan("whole", "a", "b", "c"):
        encode_shard(task)
    for task in plan("small", "a", "b", "c"):
        encode_shard(replace(task, compute=replace(task.compute, batch_seconds=0.5)))
    assert folder_bytes(tmp_path / "whole") == folder_bytes(tmp_path / "small")


def test_status_before_and_during_an_encoding(plan: Plan, tmp_path: Path) -> None:
    tasks = plan("out", "a", "b", "c")
    before = encoding_status(tasks)
    assert (before.completed.shards, len(before.remaining), before.running) == (0, 2, False)
    assert "left:    2 shards, 3 utterances, about 0.00 hours" in str(before)
    assert not (tmp_path / "out").exists()
    encode_shard(tasks[0])
    with exclusive_lock(tmp_path / "out"):
        during = encoding_status(tasks)
        assert (during.completed.shards, len(during.remaining), during.running) == (1, 1, True)
        with pytest.raises(UserError, match="another command is at work here"):
            encode_shards(tasks, LocalBackend(1))
    assert not encoding_status(tasks).running


def test_leftovers_of_a_killed_process_are_removed(plan: Plan, tmp_path: Path) -> None:
    tasks = plan("out", "a", "b")
    left = tmp_path / "out" / ".staging-shard-00000-dead"
    left.mkdir(parents=True)
    (left / "audio.bin").write_bytes(b"half")
    encode_shards(tasks, LocalBackend(1))
    assert not left.exists()


def test_output_that_cannot_be_written_is_an_error(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken: cannot be written"):
        encode_shards(plan("taken", "a"), LocalBackend(1))
