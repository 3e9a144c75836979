"""One run of a ladder in a worker process: train, score, leave the record."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechscale.errors import CannotWrite, UserError
from speechscale.records.revisions import require_revisions, revisions_of
from speechscale.records.runs import RunRecord, read_record, write_record
from speechscale.records.scores import write_scores
from speechscale.records.shards import Shard, open_shards, unigram_identity
from speechscale.train.mixed import mixed
from speechscale.train.spec import RunSpec
from speechscale.train.torchrun import train_together

RECORD = "record.json"
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
    return _leave(record, task)


def record_failure(task: TrainingTask, why: str, seconds: float = 0.0) -> RunRecord:
    """Put a run on record that was not brought to its end."""
    record = _unfinished(task, "failed", why, seconds)
    return _leave(record, task)


def _leave(record: RunRecord, task: TrainingTask) -> RunRecord:
    written = write_record(record, task.folder / RECORD)
    (task.folder / _PROGRESS).unlink(missing_ok=True)
    return written


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
    from speechscale.train.checkpoint import NoTrunk

    try:
        record = _train(task, task.spec)
    except NoTrunk:
        record = _without_trunk(task)
    if record.status != "done" or task.benchmarks is None:
        return record
    return score_run(record, task.folder, open_shards(task.benchmarks))


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


def score_run(record: RunRecord, folder: Path, benchmarks: list[Shard]) -> RunRecord:
    """Score the model in `folder`, keep the per-item scores there, and put the accuracies into the record."""
    from speechscale.compute import choose_device, choose_dtype
    from speechscale.evals.accuracy import accuracies
    from speechscale.evals.conventions import PRESETS, unscored
    from speechscale.evals.score import score_pairs
    from speechscale.evals.tasks import read_pairs
    from speechscale.train.checkpoint import MODEL, load_model

    device = choose_device()
    model, provenance = load_model(folder / MODEL)
    encoding = benchmarks[0].preprocessing
    check_same_units(folder / MODEL, provenance["kmeans"], encoding)
    if unigram_identity(benchmarks[0]) != provenance.get("unigram"):
        raise UserError(
            f"{folder / MODEL}: was trained on other tokens than the benchmarks hold; give them the model's with "
            "`speechscale unigram --model`, or units where it was trained on units."
        )
    unpaired: list[str] = []
    dtype = choose_dtype("auto", device)
    scores = score_pairs(
        model.to(device), read_pairs(benchmarks, unpaired), bos=encoding["eos_token"], dtype=dtype
    )
    write_scores(scores, folder / "scores.parquet")
    by = PRESETS["official"]
    note = missing_note([*unpaired, *unscored(scores, by)])
    return record.model_copy(update={"scores": accuracies(scores, by), "note": note})


def missing_note(missing: list[str]) -> str:
    return f"{len(missing)} pairs were not scored, the first {missing[0]}" if missing else ""


def check_same_units(model: Path, code_book: str | None, encoding: Mapping[str, Any]) -> None:
    """Whether a model was trained on units of the code book (SHA-256) that shards were encoded with.

    Units that others made may come without the hash of their code book, and so may a model of them: these are let pass.

    Raises:
        UserError: it was not, or only one of the two says.
    """
    theirs = encoding["kmeans"]["sha256"]
    if theirs == code_book:
        return
    if code_book is None:
        raise UserError(
            f"{model}: does not know which code book its units are of; `speechscale import` it again with "
            f"--code-book (the shards': {str(theirs)[:12]}…)."
        )
    raise UserError(
        f"{model}: was trained on units of another code book ({code_book[:12]}…) than the shards' "
        f"({str(theirs)[:12]}…); encode them with the model's."
    )


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
