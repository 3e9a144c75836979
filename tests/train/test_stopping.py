"""Runs that are killed: SIGTERM saves first, SIGKILL leaves the last checkpoint, and both go on to the same bits."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from many import CONTEXT
from safetensors import safe_open
from safetensors.torch import save_file

from speechscale.errors import UserError
from speechscale.records.shards import Shard, open_shards
from speechscale.train.checkpoint import MODEL, checkpoints, finished_run, load_model
from speechscale.train.loop import train_run
from speechscale.train.metrics import METRICS, read_metrics
from speechscale.train.spec import RunSpec


def train(
    spec: RunSpec, data: Path, folder: Path, tick: Callable[[int, int], None] = lambda *_: None
) -> None:
    import torch

    torch.set_num_threads(1)
    train_run(spec, open_shards(data / "train"), open_shards(data / "test"), folder, tick)


def train_with_a_signal(spec: RunSpec, data: Path, folder: Path, number: int, at: int) -> None:
    def tick(done: int, _: int) -> None:
        if done == at:
            os.kill(os.getpid(), number)

    train(spec, data, folder, tick)


def train_and_die_in_a_checkpoint(spec: RunSpec, data: Path, folder: Path, which: int) -> None:
    """Killed where the bytes of a checkpoint are written, but not yet under its name."""
    flush, flushed = os.fsync, []

    def die(handle: int) -> None:
        flushed.append(handle)
        if len(flushed) == which:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(handle)

    os.fsync = die
    train(spec, data, folder)


def exit_code(job: Callable[..., None], *arguments: object) -> int | None:
    process = CONTEXT.Process(target=job, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def data(shards: list[Shard], test_shards: list[Shard], tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def whole(spec: RunSpec, data: Path) -> bytes:
    """The weights of a run that nobody disturbed."""
    train(spec, data, data / "whole")
    return weights(data / "whole")


def weights(folder: Path) -> bytes:
    """Of a finished run, without the header, which holds the time it took."""
    file = (folder / MODEL).read_bytes()
    return file[8 + int.from_bytes(file[:8], "little") :]


@pytest.mark.parametrize("at", [3, 5])
def test_sigterm_saves_and_then_ends(spec: RunSpec, data: Path, whole: bytes, at: int) -> None:
    seldom = spec.model_copy(update={"checkpoint_steps": 1000})
    assert exit_code(train_with_a_signal, seldom, data, data / "run", signal.SIGTERM, at) == -signal.SIGTERM
    assert list(checkpoints(data / "run")) == [at]
    train(seldom, data, data / "run")
    assert weights(data / "run") == whole


@pytest.mark.parametrize("which", [1, 2, 4])
def test_sigkill_during_a_checkpoint_leaves_a_usable_state(
    spec: RunSpec, data: Path, whole: bytes, which: int
) -> None:
    assert exit_code(train_and_die_in_a_checkpoint, spec, data, data / "run", which) == -signal.SIGKILL
    assert list((data / "run").glob(".staging-*"))
    assert list(checkpoints(data / "run")) == [2 * (which - 1)] * (which > 1)
    train(spec, data, data / "run")
    assert weights(data / "run") == whole
    assert not list((data / "run").glob(".staging-*"))


def test_metrics_of_lost_steps_are_not_told_twice(spec: RunSpec, data: Path) -> None:
    spec = spec.model_copy(update={"checkpoint_steps": 4, "metrics_steps": 1})
    assert exit_code(train_with_a_signal, spec, data, data / "run", signal.SIGKILL, 7) == -signal.SIGKILL
    with (data / "run" / METRICS).open("a") as stream:
        stream.write('{"step": 7, "los')  # cut off
    assert [line["step"] for line in read_metrics(data / "run")] == list(range(7))
    train(spec, data, data / "run")
    told = read_metrics(data / "run")
    assert [line["step"] for line in told] == list(range(10))
    assert {"loss", "rate", "gradient_norm", "tokens_per_second", "mfu", "data_wait"} <= told[0].keys()
    assert all(0 <= line["data_wait"] <= 1 and 0 < line["mfu"] < 1 for line in told)


def test_the_last_checkpoints_and_the_named_ones_are_kept(spec: RunSpec, data: Path) -> None:
    spec = spec.model_copy(update={"keep_last": 2, "keep": (3,), "checkpoint_steps": 1})
    assert exit_code(train_with_a_signal, spec, data, data / "run", signal.SIGKILL, 8) == -signal.SIGKILL
    assert list(checkpoints(data / "run")) == [3, 6, 7]
    train(spec, data, data / "run")
    assert list(checkpoints(data / "run")) == [3]


def test_damaged_and_foreign_checkpoints_are_refused_in_a_sentence(spec: RunSpec, data: Path) -> None:
    folder = data / "run"
    exit_code(train_with_a_signal, spec, data, folder, signal.SIGTERM, 5)
    path = checkpoints(folder)[5]
    whole = path.read_bytes()
    for found in (whole[: len(whole) // 2], b"\x80\x04pickle", b""):
        path.write_bytes(found)
        with pytest.raises(UserError, match="not a checkpoint of speechscale, or damaged"):
            train(spec, data, folder)
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        header = file.metadata()
    tensors["model.norm"] = tensors["model.norm"][:8].clone()
    save_file(tensors, path, header)
    with pytest.raises(UserError, match=r"of another shape: norm: found \(8,\), wanted \(16,\)"):
        train(spec, data, folder)
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"another run; these differ: spec\.dim: found 16, wanted 32"):
        train(spec.model_copy(update={"dim": 32}), data, folder)


def test_a_checkpoint_in_the_place_of_a_model_is_refused(spec: RunSpec, data: Path) -> None:
    folder = data / "run"
    train(spec.model_copy(update={"keep": (4,)}), data, folder)
    shutil.copy(checkpoints(folder)[4], folder / MODEL)
    for opened in (load_model, lambda path: finished_run(path, {})):
        with pytest.raises(UserError, match=r"is no model but a checkpoint of its training"):
            opened(folder / MODEL)
    (folder / "training-old.safetensors").touch()  # somebody else's
    assert list(checkpoints(folder)) == [4]


def test_two_trainings_do_not_share_a_folder(spec: RunSpec, data: Path) -> None:
    def tick(done: int, _: int) -> None:
        if done == 3:
            with pytest.raises(UserError, match="run: another command is at work here"):
                train(spec, data, data / "run")

    train(spec, data, data / "run", tick)
    assert (data / "run" / MODEL).exists()
    (data / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        train(spec, data, data / "file")
