"""Training of one run, alone or as a task of a study: train, score, write the record."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from speechscale.errors import CannotWrite, UserError
from speechscale.records.revisions import require_revisions, revisions_of
from speechscale.records.runs import RECORD, RunRecord, read_record, write_record
from speechscale.records.shards import open_shards
from speechscale.train.spec import OnStep, RunSpec, open_corpora
from speechscale.train.torchrun import train_with_torchrun

_PROGRESS = "progress.json"  # for the progress bar and for `study status`
_WRITE_INTERVAL = 1.0  # seconds between two writes of it
_STALE_AFTER = 900.0  # seconds without a write; a test loss may take minutes


@dataclass(frozen=True)
class TrainingTask:
    """A run of a study, its folder, and its shards.

    Attributes:
        spec: of the run.
        folder: of the run.
        train: folders of training shards; none where the spec names corpora.
        test: folder of test shards.
        benchmarks: folder of labelled shards; None for a run that is not scored.

    Paths are absolute, or mean the same on every machine.
    """

    spec: RunSpec
    folder: Path
    train: tuple[Path, ...]
    test: Path
    benchmarks: Path | None


class _ProgressFile(TypedDict):
    """Contents of progress.json."""

    done: int
    steps: int
    pid: int
    host: str


def train_one_run(
    spec: RunSpec,
    test: Path,
    out: Path,
    *,
    relative_to: Path,
    shards: Sequence[Path] = (),
    weights: Sequence[float] = (),
    on_step: OnStep = lambda *_: None,
) -> RunRecord | None:
    """Train a run that belongs to no study; `out` gets its model and its record.

    Args:
        spec: of the run.
        test: folder of test shards.
        out: folder of the run.
        relative_to: folder that the corpora of the spec are relative to.
        shards: folders of training shards, where the spec names no corpora.
        weights: share of all windows that each of these folders gives; none for equal shares.
        on_step: called after every update.

    Returns:
        The record; None on all processes of a run but the main one.

    Raises:
        UserError: input that does not fit together (see `train_mixture`), or a run that diverged, after its record was
            written.
    """
    from speechscale.train.loop import train_mixture

    spec, corpora = open_corpora(spec, relative_to, shards, weights)
    record = train_mixture(spec, corpora, open_shards(test), out, on_step)
    if os.environ.get("RANK", "0") != "0":
        return None
    write_record(record, out / RECORD)
    if record.loss is None:
        raise UserError(f"{spec.run} diverged ({record.note}); its record is {out / RECORD}.")
    return record


def train_and_score_run(task: TrainingTask) -> RunRecord:
    """Train and score; an error of this run becomes a `failed` record, so that the other runs are still made.

    Raises:
        CannotWrite: the disk is full or read-only, which would stop the other runs too.
        MemoryError: the run may succeed when fewer share the machine.
    """
    (task.folder / RECORD).unlink(missing_ok=True)  # of a run that failed before
    started = time.perf_counter()
    try:
        record = _train_and_score(task)
    except (CannotWrite, MemoryError):
        raise
    except Exception as error:
        return record_failure(task, f"{type(error).__name__}: {error}", time.perf_counter() - started)
    _write_record(record, task)
    return record


def record_failure(task: TrainingTask, reason: str, seconds: float = 0.0) -> RunRecord:
    """Write the record of a run that did not end."""
    record = _unfinished(task, "failed", reason, seconds)
    _write_record(record, task)
    return record


def is_done(task: TrainingTask) -> bool:
    """Whether the run needs no more work; a failed one is tried again, a diverged one is a result.

    Raises:
        UserError: another revision of training or scoring made the record.
    """
    path = task.folder / RECORD
    if not path.exists():
        return False
    record = read_record(path)
    require_revisions(task.folder, record.revisions, revisions_of("train", "score"), record.code)
    if task.spec.processes > 1 and task.benchmarks is not None and record.status == "done":
        return bool(record.scores)  # the processes of a run write a record after training, before scoring
    return record.status != "failed"


def fraction_done(task: TrainingTask) -> float:
    """Share of the run's steps that are made, from 0 to 1."""
    return read_progress(task.folder) or 0.0


def read_progress(folder: Path) -> float | None:
    """Share of the steps that a run in progress has made; None when no process works on it."""
    try:
        progress: _ProgressFile = json.loads((folder / _PROGRESS).read_text())
        if progress["host"] == platform.node():
            os.kill(progress["pid"], 0)  # signal 0 only checks that the process exists
        elif time.time() - (folder / _PROGRESS).stat().st_mtime > _STALE_AFTER:
            return None
        return progress["done"] / progress["steps"]
    except (OSError, ValueError, KeyError):
        return None


def _train_and_score(task: TrainingTask) -> RunRecord:
    from speechscale.jobs.evaluate import score_run
    from speechscale.train.checkpoint import TrunkCheckpointMissing

    try:
        record = _train(task, task.spec)
    except TrunkCheckpointMissing:
        record = _train_without_trunk(task)
    if record.status != "done" or task.benchmarks is None:
        return record
    return score_run(record, task.folder, task.benchmarks)


def _train(task: TrainingTask, spec: RunSpec) -> RunRecord:
    from speechscale.train.loop import train_mixture

    on_step = _progress_writer(task.folder / _PROGRESS)
    if spec.processes > 1:
        return train_with_torchrun(spec, task.train, task.test, task.folder, on_step)
    spec, corpora = open_corpora(spec, Path(), task.train)
    return train_mixture(spec, corpora, open_shards(task.test), task.folder, on_step)


def _train_without_trunk(task: TrainingTask) -> RunRecord:
    """A branch whose trunk left no checkpoint: its checkpoints were removed, or it ended before."""
    trunk = read_record(task.folder.parent / str(task.spec.trunk) / RECORD)
    if trunk.status == "done":  # make all steps; they are the same as those of the trunk
        return _train(task, task.spec.model_copy(update={"trunk": None}))
    status: Literal["diverged", "failed"] = "diverged" if trunk.status == "diverged" else "failed"
    remedy = "; run again to retry both" if status == "failed" else ""
    reason = f"its trunk {trunk.run} {status} before this run branches from it ({trunk.note}){remedy}"
    return _unfinished(task, status, reason, 0.0)


def _write_record(record: RunRecord, task: TrainingTask) -> None:
    write_record(record, task.folder / RECORD)
    (task.folder / _PROGRESS).unlink(missing_ok=True)


def _unfinished(
    task: TrainingTask, status: Literal["failed", "diverged"], reason: str, seconds: float
) -> RunRecord:
    """The record of a run that has no model."""
    spec, corpora = open_corpora(task.spec, Path(), task.train)
    unique = sum(corpus.num_tokens for corpus in corpora)
    return RunRecord.of(
        spec.shape(corpora[0].shards[0].vocabulary_size),
        spec,
        unique_tokens=min(spec.tokens_seen, unique),
        epoch_tokens=unique,
        status=status,
        seconds=seconds,
        flops_spent=None,
        note=reason,
    )


def _progress_writer(path: Path) -> OnStep:
    last = 0.0

    def write(done: int, steps: int) -> None:
        nonlocal last
        if time.perf_counter() - last > _WRITE_INTERVAL:
            last = time.perf_counter()
            progress = _ProgressFile(done=done, steps=steps, pid=os.getpid(), host=platform.node())
            with suppress(OSError):  # without the file only the progress bar is wrong
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(progress))

    return write
