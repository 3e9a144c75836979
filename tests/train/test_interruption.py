"""Killed runs: SIGTERM saves a checkpoint, after SIGKILL the last one remains, and both resume to the same bits."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rank_processes import FORKSERVER
from safetensors import safe_open
from safetensors.torch import save_file

from speechscale.errors import UserError
from speechscale.records.shards import open_shards
from speechscale.records.training_provenance import TrainingProvenance
from speechscale.train.checkpoint import MODEL, list_checkpoints, load_model, read_record_if_finished
from speechscale.train.loop import train_run
from speechscale.train.metrics import METRICS, MetricsLine, read_metrics
from speechscale.train.spec import RunSpec


def train(
    spec: RunSpec, data: Path, folder: Path, on_step: Callable[[int, int], None] = lambda *_: None
) -> None:
    import torch

    torch.set_num_threads(1)
    train_run(spec, open_shards(data / "train"), open_shards(data / "test"), folder, on_step)


def train_with_signal(spec: RunSpec, data: Path, folder: Path, number: int, at: int) -> None:
    def on_step(done: int, _: int) -> None:
        if done == at:
            os.kill(os.getpid(), number)

    train(spec, data, folder, on_step)


def train_and_die_in_checkpoint(spec: RunSpec, data: Path, folder: Path, which: int) -> None:
    """Die when the bytes of checkpoint number `which` are written, but not yet under its name."""
    fsync, calls = os.fsync, []

    def fsync_or_die(handle: int) -> None:
        calls.append(handle)
        if len(calls) == which:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = fsync_or_die
    train(spec, data, folder)


def exit_code(function: Callable[..., None], *arguments: object) -> int | None:
    process = FORKSERVER.Process(target=function, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def uninterrupted(spec: RunSpec, data: Path) -> bytes:
    """The weights of a run without interruptions."""
    train(spec, data, data / "uninterrupted")
    return weights(data / "uninterrupted")


def weights(folder: Path) -> bytes:
    """Weights of a finished run as bytes; the header is left out, because it has the duration of the run."""
    file = (folder / MODEL).read_bytes()
    return file[8 + int.from_bytes(file[:8], "little") :]


@pytest.mark.parametrize("at", [3, 5])
def test_sigterm_saves_a_checkpoint_and_ends_the_process(
    spec: RunSpec, data: Path, uninterrupted: bytes, at: int
) -> None:
    without_checkpoints = spec.model_copy(update={"checkpoint_steps": 1000})
    assert (
        exit_code(train_with_signal, without_checkpoints, data, data / "run", signal.SIGTERM, at)
        == -signal.SIGTERM
    )
    assert list(list_checkpoints(data / "run")) == [at]
    train(without_checkpoints, data, data / "run")
    assert weights(data / "run") == uninterrupted


@pytest.mark.parametrize("which", [1, 2, 4])
def test_sigkill_during_a_checkpoint_leaves_a_usable_state(
    spec: RunSpec, data: Path, uninterrupted: bytes, which: int
) -> None:
    assert exit_code(train_and_die_in_checkpoint, spec, data, data / "run", which) == -signal.SIGKILL
    assert list((data / "run").glob(".staging-*"))
    assert list(list_checkpoints(data / "run")) == [2 * (which - 1)] * (which > 1)
    train(spec, data, data / "run")
    assert weights(data / "run") == uninterrupted
    assert not list((data / "run").glob(".staging-*"))


def test_metrics_of_repeated_steps_are_not_written_twice(spec: RunSpec, data: Path) -> None:
    spec = spec.model_copy(update={"checkpoint_steps": 4, "metrics_steps": 1})
    assert exit_code(train_with_signal, spec, data, data / "run", signal.SIGKILL, 7) == -signal.SIGKILL
    with (data / "run" / METRICS).open("a") as stream:
        stream.write('{"step": 7, "los')  # cut off
    assert [line.step for line in read_metrics(data / "run")] == list(range(7))
    train(spec, data, data / "run")
    lines = read_metrics(data / "run")
    assert [line.step for line in lines] == list(range(10))
    assert lines[0].model_fields_set == set(MetricsLine.model_fields)
    assert all(0 <= line.data_wait <= 1 and 0 < line.mfu < 1 for line in lines)


def test_last_checkpoints_and_those_to_keep_are_kept(spec: RunSpec, data: Path) -> None:
    spec = spec.model_copy(update={"keep_last": 2, "keep": (3,), "checkpoint_steps": 1})
    assert exit_code(train_with_signal, spec, data, data / "run", signal.SIGKILL, 8) == -signal.SIGKILL
    assert list(list_checkpoints(data / "run")) == [3, 6, 7]
    train(spec, data, data / "run")
    assert list(list_checkpoints(data / "run")) == [3]


def test_damaged_and_foreign_checkpoints_are_refused(spec: RunSpec, data: Path) -> None:
    folder = data / "run"
    exit_code(train_with_signal, spec, data, folder, signal.SIGTERM, 5)
    path = list_checkpoints(folder)[5]
    intact = path.read_bytes()
    for damaged in (intact[: len(intact) // 2], b"\x80\x04pickle", b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a checkpoint of speechscale, or damaged"):
            train(spec, data, folder)
    path.write_bytes(intact)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        header = file.metadata()
    tensors["model.norm"] = tensors["model.norm"][:8].clone()
    save_file(tensors, path, header)
    with pytest.raises(UserError, match=r"of another shape: norm: found \(8,\), wanted \(16,\)"):
        train(spec, data, folder)
    path.write_bytes(intact)
    with pytest.raises(UserError, match=r"another run; these differ: spec\.dim: found 16, wanted 32"):
        train(spec.model_copy(update={"dim": 32}), data, folder)


def test_checkpoint_under_the_name_of_a_model_is_refused(spec: RunSpec, data: Path) -> None:
    folder = data / "run"
    train(spec.model_copy(update={"keep": (4,)}), data, folder)
    shutil.copy(list_checkpoints(folder)[4], folder / MODEL)
    for read in (load_model, lambda path: read_record_if_finished(path, TrainingProvenance())):
        with pytest.raises(UserError, match=r"is no model but a checkpoint of its training"):
            read(folder / MODEL)
    (folder / "training-old.safetensors").touch()  # somebody else's
    assert list(list_checkpoints(folder)) == [4]


def test_second_training_in_a_folder_is_refused(spec: RunSpec, data: Path) -> None:
    def on_step(done: int, _: int) -> None:
        if done == 3:
            with pytest.raises(UserError, match="run: another command is at work here"):
                train(spec, data, data / "run")

    train(spec, data, data / "run", on_step)
    assert (data / "run" / MODEL).exists()
    (data / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        train(spec, data, data / "file")
