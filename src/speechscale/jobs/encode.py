"""Shards of a manifest: made by workers, what became of them, and what is left to do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import UserError
from speechscale.records.seal import exclusive_lock, is_locked, remove_leftovers, write_error, write_json
from speechscale.records.shards import Shard, open_shard
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.encode import ShardTask, encode_shard, is_encoded, plan_shards
from speechscale.units.learn import CodeBookTask, adopt_code_book, make_code_book
from speechscale.units.precision_check import PrecisionTask, changed_units
from speechscale.units.sklearn_kmeans import read_published
from speechscale.workers.failures import Failure
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import Backend, Workload, run_tasks, try_tasks

_FAILURES = "failures.json"  # beside the shards: those that failed last time, and why
_TOLD = 10  # failed shards in one sentence


@dataclass(frozen=True, kw_only=True)
class EncodingJob:
    """The encoding of a manifest into a folder of shards.

    Attributes:
        manifest: the speech to encode.
        codebook: file of the codebook, which names the encoder.
        out: folder of the shards.
        root: the folder that audio paths are relative to; by default that of the manifest.
        split: the only split to encode; None encodes all.
        shard_seconds: duration of the audio of one shard, approximately.
        compute: device, precision and batch size of the encoder.
    """

    manifest: Path
    codebook: Path
    out: Path
    root: Path | None = None
    split: str | None = None
    shard_seconds: float = 3600.0
    compute: ComputeOptions = DEFAULT_OPTIONS


@dataclass(frozen=True)
class Encoded:
    """What stands in the shards of a manifest."""

    shards: int
    samples: int
    skipped: int
    units: int
    seconds: float

    def __str__(self) -> str:
        skips = f", {self.skipped} skipped (skips.jsonl in each shard says why)" if self.skipped else ""
        hours = f" {self.seconds / 3600:.2f} hours," if self.seconds else ""  # others' units may not say
        return f"{self.samples} utterances,{hours} {self.units} units in {self.shards} shards{skips}."


def learn_code_book(task: CodeBookTask) -> str:
    """Learn a code book in a worker; what was learnt, in words."""
    ((_, learnt),) = run_tasks(make_code_book, [task], label="k-means", backend=LocalBackend(1))
    skipped = f"; {learnt.faulty} utterances of the sample could not be heard" if learnt.faulty else ""
    return f"{task.kmeans.clusters} units learnt from {learnt.frames} frames{skipped};\n{learnt.quality}"


def import_code_book(task: CodeBookTask, published: Path, sha256: str | None) -> str:
    """Take a published code book for the encoder of a task, and measure it on the sample; the report, in words.

    Raises:
        UserError: not the file of that hash, not a k-means, or of another encoder.
    """
    book = read_published(published, task.encoder, sha256)
    quality = adopt_code_book(book, task)
    return f"{len(book.centroids)} units taken from {published};\n{quality}"


def encode_manifest(job: EncodingJob, backend: Backend, log: Callable[[str], None]) -> Encoded:
    """Encode a manifest; with a precision below float32, `log` first what share of units it changes.

    Raises:
        UserError: broken input, a shard that was made from something else, failed shards, or no utterance is left.
    """
    root = job.root or job.manifest.parent
    tasks = plan_shards(
        job.manifest,
        root,
        job.codebook,
        job.out,
        load_waveforms,
        seconds=job.shard_seconds,
        split=job.split,
        computing=job.compute,
    )
    if job.compute.precision != "float32":
        log(
            compare_precision(
                PrecisionTask(job.manifest, root, job.codebook, load_waveforms, job.compute, job.split)
            )
        )
    return encode_all(tasks, backend)


def compare_precision(task: PrecisionTask) -> str:
    """Say what share of units another precision changes, measured in a worker."""
    ((_, (changed, frames)),) = run_tasks(changed_units, [task], label="precision", backend=LocalBackend(1))
    if not frames:
        return f"{task.computing.precision}: no utterance of the sample could be heard."
    return (
        f"{task.computing.precision} changes {changed / frames:.2%} of units "
        f"({changed} of {frames} frames of a sample of {task.utterances} utterances)."
    )


def encode_all(tasks: Sequence[ShardTask], backend: Backend, label: str = "speech to units") -> Encoded:
    """Make the shards that do not stand yet. One that fails is told at the end and tried again by the next call.

    Raises:
        UserError: a shard was made from something else, shards failed, or every utterance had to be skipped.
    """
    out = tasks[0].folder.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    with exclusive_lock(out):
        remove_leftovers(out)
        missing = [task for task in tasks if not is_encoded(task)]
        failures = _make(missing, out, backend, label)
        remove_leftovers(out)  # of workers that were lost
    if failures:
        told = "; ".join(f"{name} ({why})" for name, why in sorted(failures.items())[:_TOLD])
        more = f"; and {len(failures) - _TOLD} more" if len(failures) > _TOLD else ""
        raise UserError(
            f"{out}: {len(failures)} of {len(tasks)} shards failed: {told}{more}. "
            "The others stand; run the same command again to retry."
        )
    encoded = summarise([open_shard(task.folder) for task in tasks])
    if not encoded.samples:
        raise UserError(f"{out}: no utterance is left; skips.jsonl in each shard says why.")
    return encoded


def _make(missing: Sequence[ShardTask], out: Path, backend: Backend, label: str) -> dict[str, str]:
    """Make shards; returns the names of those that failed, with the reason, which are kept beside the shards too."""
    failures: dict[str, str] = {}
    outcomes = try_tasks(
        encode_shard,
        missing,
        backend,
        Workload(
            label,
            gpu=any(task.gpu for task in missing),
            weight=lambda task: task.stretch.seconds,
            on_retry=_with_smaller_batches,
        ),
    )
    for task, outcome in outcomes:
        if isinstance(outcome, Failure):
            failures[task.folder.name] = str(outcome)
            write_json(out / _FAILURES, failures)
    if not failures:
        (out / _FAILURES).unlink(missing_ok=True)
    return failures


def _with_smaller_batches(task: ShardTask, failure: Failure) -> ShardTask:
    """Smaller batches, unless it was not for memory; a lost worker may have been ended for it."""
    if failure.cause == "input/output":
        return task
    smaller = replace(task.computing, batch_seconds=task.computing.batch_seconds / 2)
    return replace(task, computing=smaller)


@dataclass(frozen=True)
class EncodingStatus:
    """How far an encoding is."""

    made: Encoded
    skips: Counter[str]  # by reason
    left: list[ShardTask]
    failures: dict[str, str]  # of those left: why they failed last time
    at_work: bool

    def __str__(self) -> str:
        seconds = sum(task.stretch.seconds for task in self.left)
        utterances = sum(task.stretch.count for task in self.left)
        skips = "".join(f"\n  {count:>9}  {reason}" for reason, count in self.skips.most_common())
        failures = "".join(f"\n  {name}: {why}" for name, why in sorted(self.failures.items()))
        lines = [
            f"done:    {self.made.shards} shards, {self.made.samples} utterances, "
            f"{self.made.seconds / 3600:.2f} hours, {self.made.units} units",
            f"skipped: {self.made.skipped} utterances{skips}",
            f"left:    {len(self.left)} shards, {utterances} utterances, about {seconds / 3600:.2f} hours",
            *([f"failed last time:{failures}"] if failures else []),
            "an `encode` is at work here." if self.at_work else "nothing is at work here.",
        ]
        return "\n".join(lines)


def encoding_status(tasks: Sequence[ShardTask]) -> EncodingStatus:
    """What is made, skipped and left of a plan; starts nothing, and may be asked while an encoding runs.

    Raises:
        UserError: a shard was made from something else, or is damaged.
    """
    out = tasks[0].folder.parent
    made = [task for task in tasks if is_encoded(task)]
    shards = [open_shard(task.folder) for task in made]
    names = {task.folder.name for task in made}
    return EncodingStatus(
        made=summarise(shards),
        skips=Counter(skip["reason"] for shard in shards for skip in shard.skips()),
        left=[task for task in tasks if task.folder.name not in names],
        failures={name: why for name, why in _failures(out).items() if name not in names},
        at_work=is_locked(out),
    )


def _failures(out: Path) -> dict[str, str]:
    try:
        return json.loads((out / _FAILURES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{out / _FAILURES}: cannot be read ({error}); remove it.") from error


def summarise(shards: Sequence[Shard]) -> Encoded:
    return Encoded(
        shards=len(shards),
        samples=sum(shard.meta.num_samples for shard in shards),
        skipped=sum(shard.meta.num_skipped for shard in shards),
        units=sum(shard.meta.num_audio_steps for shard in shards),
        seconds=sum(shard.seconds or 0.0 for shard in shards),
    )
