"""One run of a ladder in a worker process: train, score, leave the record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speechscale.records.runs import RunRecord, read_record, write_record
from speechscale.records.scores import write_scores
from speechscale.records.shards import Shard, open_shards
from speechscale.train.spec import RunSpec

_PROGRESS = "progress.json"  # {"done": steps, "steps": steps in all}, for the bar and for `study status`
_EVERY = 1.0  # seconds between two writes of it


@dataclass(frozen=True)
class RunTask:
    """A run, its folder, and the shards it needs."""

    spec: RunSpec
    folder: Path
    train: Path
    test: Path
    benchmarks: Path


def is_done(task: RunTask) -> bool:
    """Whether the run needs no more work; a failed one is tried again, a diverged one is a result."""
    path = task.folder / "record.json"
    return path.exists() and read_record(path).status != "failed"


def run_one(task: RunTask) -> RunRecord:
    """Train and score; an error of this run becomes a `failed` record, so that the others go on."""
    task.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        record = _train_and_score(task)
    except Exception as error:
        record = _failed(task, f"{type(error).__name__}: {error}", time.perf_counter() - started)
    write_record(record, task.folder / "record.json")
    (task.folder / _PROGRESS).unlink(missing_ok=True)
    return record


def fraction_done(task: RunTask) -> float:
    return read_progress(task.folder) or 0.0


def read_progress(folder: Path) -> float | None:
    """How far a run in progress is, from what it last wrote; None when it is not in progress."""
    try:
        progress = json.loads((folder / _PROGRESS).read_text())
        return progress["done"] / progress["steps"]
    except (OSError, ValueError):
        return None


def _train_and_score(task: RunTask) -> RunRecord:
    from speechscale.train.loop import train_run

    train, test = open_shards(task.train), open_shards(task.test)
    record = train_run(task.spec, train, test, task.folder, _progress_writer(task.folder / _PROGRESS))
    if record.status != "done":
        return record
    return score_run(record, task.folder, open_shards(task.benchmarks))


def score_run(record: RunRecord, folder: Path, benchmarks: list[Shard]) -> RunRecord:
    """Score the model in `folder`, keep the per-item scores there, and put the accuracies into the record."""
    from speechscale.evals.accuracy import accuracies
    from speechscale.evals.score import score_pairs
    from speechscale.evals.tasks import read_pairs
    from speechscale.model.device import compute_device, precision_of
    from speechscale.train.checkpoint import MODEL, load_model

    device = compute_device()
    model = load_model(folder / MODEL)[0].to(device)
    dtype = precision_of("auto", device)
    bos = benchmarks[0].preprocessing["eos_token"]
    scores = score_pairs(model, read_pairs(benchmarks), bos=bos, dtype=dtype)
    write_scores(scores, folder / "scores.parquet")
    return record.model_copy(update={"scores": accuracies(scores)})


def _failed(task: RunTask, why: str, seconds: float) -> RunRecord:
    spec = task.spec
    shape = spec.shape(open_shards(task.train)[0].preprocessing["vocab_size"])
    return RunRecord(
        run=spec.run,
        series=spec.series,
        status="failed",
        preset=spec.preset,
        seed=spec.seed,
        params=shape.params,
        params_total=shape.params_total,
        tokens=spec.tokens,
        unique_tokens=min(spec.tokens, spec.unique_tokens or spec.tokens),
        epochs=1.0,
        steps=spec.steps,
        flops=shape.flops(spec.tokens),
        flops_exact=shape.flops_exact(spec.tokens),
        loss=None,
        loss_se=None,
        bits_per_second=None,
        seconds=seconds,
        note=why,
    )


def _progress_writer(path: Path) -> Callable[[int, int], None]:
    last = time.perf_counter()

    def write(done: int, steps: int) -> None:
        nonlocal last
        if time.perf_counter() - last > _EVERY:
            last = time.perf_counter()
            path.write_text(json.dumps({"done": done, "steps": steps}))

    return write
