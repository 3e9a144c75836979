"""Training jobs: one run by itself, records of runs that fail, and the source files that a run enters."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from run_records import run_spec
from toy_shards import PREPROCESSING, VOCABULARY, counter_samples

from speechscale.errors import UserError
from speechscale.jobs.train_run import (
    TrainingTask,
    is_done,
    record_failure,
    train_and_score_run,
    train_one_run,
)
from speechscale.records.runs import RECORD, read_record
from speechscale.records.shards import write_shard

SPEC = run_spec(steps=4, dim=8, heads=1, schedule="wsd", curve=1, checkpoint_steps=2)


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    torch.set_num_threads(1)
    for seed, name in enumerate(("train", "test")):
        samples = counter_samples(np.random.default_rng(seed), name)
        write_shard(tmp_path / name / "shard-0", samples, [], PREPROCESSING)
    return TrainingTask(SPEC, tmp_path / "runs" / "tiny", (tmp_path / "train",), tmp_path / "test", None)


def test_single_run_writes_its_record(task: TrainingTask, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    record = train_one_run(
        SPEC,
        task.test,
        tmp_path / "out",
        relative_to=tmp_path,
        shards=task.train,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert record is not None and record == read_record(tmp_path / "out" / RECORD)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_run_that_diverges_is_an_error_after_its_record_is_written(
    task: TrainingTask, tmp_path: Path
) -> None:
    wild = SPEC.model_copy(update={"peak_lr": 1e38, "preset": "modern", "curve": 0})
    with pytest.raises(UserError, match=r"tiny diverged \(step .*its record is .*record\.json\."):
        train_one_run(wild, task.test, tmp_path / "out", relative_to=tmp_path, shards=task.train)
    assert read_record(tmp_path / "out" / RECORD).status == "diverged"


def test_record_of_a_failed_run_has_its_size_and_recipe(task: TrainingTask) -> None:
    record = record_failure(task, "the worker was lost", seconds=3.0)
    assert record == read_record(task.folder / RECORD)
    assert (record.status, record.note, record.seconds) == ("failed", "the worker was lost", 3.0)
    assert (record.schedule, record.warmup_steps, record.flops_spent) == ("wsd", 1, None)
    assert (record.params, record.tokens) == (SPEC.shape(VOCABULARY).params, 512)
    assert not is_done(task)


def test_run_enters_at_most_nine_files_and_none_calls_back(task: TrainingTask) -> None:
    """Who reads the code of a run from the top needs at most nine files of jobs and train, in one direction."""
    # An earlier run imports all modules: importing one enters its file, too.
    train_and_score_run(replace(task, folder=task.folder.with_name("earlier")))
    entered: dict[str, None] = {}
    active: list[str | None] = []
    back: set[tuple[str, str]] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            *_, room, name = ("/" + frame.f_code.co_filename).rsplit("/", 2)
            file = f"{room}/{name}" if room in ("jobs", "train") else None
            above = [each for each in active if each]
            if file and file in above and above[-1] != file and frame.f_code.co_name != "write":
                back.add((above[-1], file))  # `write` is the callback that reports progress
            if file:
                entered[file] = None
            active.append(file)
        elif event == "return" and active:
            active.pop()

    sys.setprofile(profile)
    try:
        record = train_and_score_run(task)
    finally:
        sys.setprofile(None)
    assert record.status == "done" and not back
    assert list(entered)[:3] == ["jobs/train_run.py", "train/spec.py", "train/loop.py"]
    assert len(entered) <= 9, " ".join(entered)
