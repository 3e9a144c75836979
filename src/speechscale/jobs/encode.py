"""Encoding of a manifest: its shards made by workers, a summary of them, and the status of an unfinished encoding."""

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
from speechscale.units.precision_check import PrecisionTask, count_changed_units
from speechscale.units.source import SpeechSource
from speechscale.workers.failures import Failure
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import Backend, Workload, run_tasks, try_tasks

_FAILURES = (
    "failures.json"  # in the folder of the shards: those that failed in the last call, with the reason
)
_MAX_NAMED_FAILURES = 10  # in one error message


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

    @property
    def source(self) -> SpeechSource:
        """The speech to encode."""
        return SpeechSource(self.manifest, self.root or self.manifest.parent, load_waveforms, self.split)

    def tasks(self) -> list[ShardTask]:
        """One task per shard.

        Raises:
            UserError: the manifest is broken or lists no utterance, or the codebook cannot be read.
        """
        return plan_shards(
            self.source, self.codebook, self.out, seconds=self.shard_seconds, compute=self.compute
        )


@dataclass(frozen=True)
class ShardSummary:
    """Totals over the shards of a folder."""

    shards: int
    samples: int  # utterances
    skipped: int  # utterances
    units: int  # EOS included
    seconds: float  # 0 where the shards do not record it

    def __str__(self) -> str:
        skips = f", {self.skipped} skipped (skips.jsonl in each shard says why)" if self.skipped else ""
        hours = f" {self.seconds / 3600:.2f} hours," if self.seconds else ""
        return f"{self.samples} utterances,{hours} {self.units} units in {self.shards} shards{skips}."


def encode_manifest(job: EncodingJob, backend: Backend, log: Callable[[str], None]) -> ShardSummary:
    """Encode a manifest; with a precision below float32, `log` first what share of units it changes.

    Raises:
        UserError: broken input, a shard that was made from something else, failed shards, or no utterance is left.
    """
    tasks = job.tasks()
    if job.compute.precision != "float32":
        log(compare_precision(PrecisionTask(job.source, job.codebook, job.compute)))
    return encode_shards(tasks, backend)


def compare_precision(task: PrecisionTask) -> str:
    """A sentence on the share of units that a precision changes, measured in a worker."""
    changes = run_tasks(count_changed_units, [task], label="precision", backend=LocalBackend(1))
    ((_, (changed, frames)),) = changes
    if not frames:
        return f"{task.compute.precision}: no utterance of the sample could be read."
    return (
        f"{task.compute.precision} changes {changed / frames:.2%} of units "
        f"({changed} of {frames} frames of a sample of {task.utterances} utterances)."
    )


def encode_shards(
    tasks: Sequence[ShardTask], backend: Backend, label: str = "speech to units"
) -> ShardSummary:
    """Make the shards that do not exist yet. Failed shards are reported at the end; the next call retries them.

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
        failures = _encode_missing(missing, out, backend, label)
        remove_leftovers(out)  # of lost workers
    if failures:
        named = "; ".join(f"{name} ({why})" for name, why in sorted(failures.items())[:_MAX_NAMED_FAILURES])
        more = (
            f"; and {len(failures) - _MAX_NAMED_FAILURES} more" if len(failures) > _MAX_NAMED_FAILURES else ""
        )
        raise UserError(
            f"{out}: {len(failures)} of {len(tasks)} shards failed: {named}{more}. "
            "The other shards are complete; run the same command again to retry."
        )
    summary = summarize_shards([open_shard(task.folder) for task in tasks])
    if not summary.samples:
        raise UserError(f"{out}: no utterance is left; skips.jsonl in each shard says why.")
    return summary


def _encode_missing(missing: Sequence[ShardTask], out: Path, backend: Backend, label: str) -> dict[str, str]:
    """Make shards; returns the names of those that failed with the reason, and writes them to a file."""
    failures: dict[str, str] = {}
    workload = Workload[ShardTask](
        label,
        gpu=any(task.gpu for task in missing),
        weight=lambda task: task.manifest_slice.seconds,
        on_retry=_with_smaller_batches,
    )
    for task, outcome in try_tasks(encode_shard, missing, backend, workload):
        if isinstance(outcome, Failure):
            failures[task.folder.name] = str(outcome)
            write_json(out / _FAILURES, failures)
    if not failures:
        (out / _FAILURES).unlink(missing_ok=True)
    return failures


def _with_smaller_batches(task: ShardTask, failure: Failure) -> ShardTask:
    """The task with half the batch, unless memory cannot be the cause; a lost worker may have been out of memory."""
    if failure.cause == "input/output":
        return task
    smaller = replace(task.compute, batch_seconds=task.compute.batch_seconds / 2)
    return replace(task, compute=smaller)


@dataclass(frozen=True)
class EncodingStatus:
    """Progress of an encoding."""

    completed: ShardSummary
    skip_reasons: Counter[str]
    remaining: list[ShardTask]
    failures: dict[str, str]  # of the remaining shards: why they failed in the last call
    running: bool

    def __str__(self) -> str:
        seconds = sum(task.manifest_slice.seconds for task in self.remaining)
        utterances = sum(task.manifest_slice.count for task in self.remaining)
        skips = "".join(f"\n  {count:>9}  {reason}" for reason, count in self.skip_reasons.most_common())
        failures = "".join(f"\n  {name}: {why}" for name, why in sorted(self.failures.items()))
        lines = [
            f"done:    {self.completed.shards} shards, {self.completed.samples} utterances, "
            f"{self.completed.seconds / 3600:.2f} hours, {self.completed.units} units",
            f"skipped: {self.completed.skipped} utterances{skips}",
            f"left:    {len(self.remaining)} shards, {utterances} utterances, about {seconds / 3600:.2f} hours",
            *([f"failed last time:{failures}"] if failures else []),
            "an `encode` is running here." if self.running else "nothing is running here.",
        ]
        return "\n".join(lines)


def encoding_status(tasks: Sequence[ShardTask]) -> EncodingStatus:
    """The progress of an encoding, which may be running; changes nothing.

    Raises:
        UserError: a shard was made from something else, or is damaged.
    """
    out = tasks[0].folder.parent
    completed = [task for task in tasks if is_encoded(task)]
    shards = [open_shard(task.folder) for task in completed]
    names = {task.folder.name for task in completed}
    return EncodingStatus(
        completed=summarize_shards(shards),
        skip_reasons=Counter(skip.reason for shard in shards for skip in shard.skips()),
        remaining=[task for task in tasks if task.folder.name not in names],
        failures={name: why for name, why in _read_failures(out).items() if name not in names},
        running=is_locked(out),
    )


def _read_failures(out: Path) -> dict[str, str]:
    try:
        failures: dict[str, str] = json.loads((out / _FAILURES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{out / _FAILURES}: cannot be read ({error}); remove it.") from error
    return failures


def summarize_shards(shards: Sequence[Shard]) -> ShardSummary:
    """Totals over shards, from their `meta.json`."""
    return ShardSummary(
        shards=len(shards),
        samples=sum(shard.meta.num_samples for shard in shards),
        skipped=sum(shard.meta.num_skipped for shard in shards),
        units=sum(shard.meta.num_audio_steps for shard in shards),
        seconds=sum(shard.seconds or 0.0 for shard in shards),
    )
