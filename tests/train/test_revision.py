"""A training continues at another commit, and not with another revision of the training."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.code import code_identity
from speechscale.records.revisions import STAGE_REVISIONS
from speechscale.records.shards import Shard
from speechscale.train.checkpoint import MODEL, list_checkpoints
from speechscale.train.loop import train_run
from speechscale.train.spec import RunSpec


class Interrupted(Exception):
    """Raised after the fifth step."""


def interrupt(done: int, _: int) -> None:
    if done == 5:
        raise Interrupted


def test_training_continues_at_another_commit_only(
    spec: RunSpec,
    shards: list[Shard],
    test_shards: list[Shard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train_run(spec, shards, test_shards, folder, interrupt)
    assert list_checkpoints(folder)
    revision = STAGE_REVISIONS["train"]
    monkeypatch.setitem(STAGE_REVISIONS, "train", revision + 1)
    differs = rf"revisions\.train: found {revision}, wanted {revision + 1}\. Choose another output folder"
    with pytest.raises(UserError, match=differs):
        train_run(spec, shards, test_shards, folder)
    monkeypatch.setitem(STAGE_REVISIONS, "train", revision)
    other = code_identity().model_copy(update={"source": "0" * 64, "commit": "f" * 40})
    monkeypatch.setattr("speechscale.records.code._adopted", other)
    record = train_run(spec, shards, test_shards, folder)
    assert record.loss == train_run(spec, shards, test_shards, tmp_path / "uninterrupted").loss
    assert other.source.encode() in (folder / MODEL).read_bytes()
