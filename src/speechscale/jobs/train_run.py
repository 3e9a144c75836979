"""One run of a ladder in a worker process: train, score, leave the record."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speechscale.errors import CannotWrite
from speechscale.records.runs import RECORD, RunRecord, read_record, write_record
from speechscale.records.shards import open_shards
from speechscale.train.mixed import mixed
from speechscale.train.spec import RunSpec
from speechscale.train.torchrun import train_together

_PROGRESS = "progress.json"  # steps done, steps in all, process; for the bar and for `study status`
_EVERY = 1.0  # seconds between two writes of it
_SILENT = 900.0  # seconds after which a process of another machine counts as gone; test losses take a while


@dataclass(frozen=True)
class TrainingTask:
    """A run, its folder, and the shards it needs; the paths are absolute, or the same wherever it is done."""

    spec: RunSpec
    folder: Path
    train: tuple[Path, ...]  # none where the spec names corpora
    test: Path
    benchmarks: Path | None  # None: it is not scored


def is_done(task: TrainingTask) -> bool:
    """Whether the run needs no more work; a failed one is tried again, a diverged one is a result."""
    path = task.folder / RECORD
    if not path.exists():
        return False
    record = read_record(path)
    if task.spec.processes > 1 and task.benchmarks is not None and record.status == "done":
        return bool(record.scores)  # the processes leave a record when they have trained
    return record.status != "failed"


def train_and_score_run(task: TrainingTask) -> RunRecord:
    """Train and score; an error of this run becomes a `failed` record, so that the others go on.

    Raises:
        CannotWrite: the disk refuses; no other run would fare better.
    """
    (task.folder / RECORD).unlink(missing_ok=True)  # of a run that failed before
    started = time.perf_counter()
    try:
        record = _train_and_score(task)
    except (CannotWrite, MemoryError):
        raise
    except Exception as error:
        return record_failure(task, f"{type(error).__name__}: {error}", time.perf_counter() - started)
    _leave(record, task)
    return record


def record_failure(task: TrainingTask, why: str, seconds: float = 0.0) -> RunRecord:
    """Put a run on record that was not brought to its end."""
    record = _unfinished(task, "failed", why, seconds)
    _leave(record, task)
    return record


def _leave(record: RunRecord, task: TrainingTask) -> None:
    write_record(record, task.folder / RECORD)
    (task.folder / _PROGRESS).unlink(missing_ok=True)


def fraction_done(task: TrainingTask) -> float:
    return read_progress(task.folder) or 0.0


def read_progress(folder: Path) -> float | None:
    """How far a run in progress is, from what it last wrote; None when no living process is at it."""
    try:
        progress = json.loads((folder / _PROGRESS).read_text())
        if progress["host"] == platform.node():
            os.kill(progress["pid"], 0)  # signal 0 only asks whether the process is there
        elif time.time() - (folder / _PROGRESS).stat().st_mtime > _SILENT:
            return None
        return progress["done"] / progress["steps"]
    except (OSError, ValueError, KeyError):
        return None


def _train_and_score(task: TrainingTask) -> RunRecord:
    from speechscale.jobs.evaluate import score_run
    from speechscale.train.checkpoint import NoTrunk

    try:
        record = _train(task, task.spec)
    except NoTrunk:
        record = _without_trunk(task)
    if record.status != "done" or task.benchmarks is None:
        return record
    return score_run(record, task.folder, task.benchmarks)


def _train(task: TrainingTask, spec: RunSpec) -> RunRecord:
    from speechscale.train.checkpoint import MODEL, checkpoints, trunk_checkpoint
    from speechscale.train.loop import train_mixture

    progress = _progress_writer(task.folder / _PROGRESS)
    if spec.processes > 1:
        if spec.trunk and not (checkpoints(task.folder) or (task.folder / MODEL).exists()):
            trunk_checkpoint(task.folder.parent / spec.trunk, spec.decay_start)
        return train_together(spec, task.train, task.test, task.folder, progress)
    spec, corpora = mixed(spec, Path(), task.train, [])
    return train_mixture(spec, corpora, open_shards(task.test), task.folder, progress)


def _without_trunk(task: TrainingTask) -> RunRecord:
    """A branch whose trunk left nothing to begin with, because its checkpoints are gone or it ended before."""
    trunk = read_record(task.folder.parent / str(task.spec.trunk) / RECORD)
    if trunk.status == "done":  # all steps by itself, which are the same
        return _train(task, task.spec.model_copy(update={"trunk": None}))
    how: Literal["diverged", "failed"] = "diverged" if trunk.status == "diverged" else "failed"
    again = "; run again to retry both" if how == "failed" else ""
    why = f"its trunk {trunk.run} {how} before this run leaves it ({trunk.note}){again}"
    return _unfinished(task, how, why, 0.0)


def _unfinished(
    task: TrainingTask, status: Literal["failed", "diverged"], why: str, seconds: float
) -> RunRecord:
    spec, corpora = mixed(task.spec, Path(), task.train, [])
    shape = spec.shape(corpora[0].shards[0].preprocessing["vocab_size"])
    unique = sum(corpus.num_tokens for corpus in corpora)
    return RunRecord(
        run=spec.run,
        series=spec.series,
        status=status,
        preset=spec.preset,
        seed=spec.seed,
        params=shape.params,
        params_total=shape.params_total,
        tokens=spec.tokens_seen,
        unique_tokens=min(spec.tokens_seen, unique),
        epochs=spec.tokens_seen / unique,
        steps=spec.steps,
        flops=shape.flops(spec.tokens_seen),
        flops_exact=shape.flops_exact(spec.tokens_seen),
        loss=None,
        loss_se=None,
        bits_per_second=None,
        seconds=seconds,
        note=why,
    )


def _progress_writer(path: Path) -> Callable[[int, int], None]:
    last = 0.0
    told = {"pid": os.getpid(), "host": platform.node()}

    def write(done: int, steps: int) -> None:
        nonlocal last
        if time.perf_counter() - last > _EVERY:
            last = time.perf_counter()
            with suppress(OSError):  # a bar that stands still harms nobody
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(told | {"done": done, "steps": steps}))

    return write
