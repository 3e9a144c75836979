"""Shards of a manifest, made by workers; and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechscale.errors import UserError
from speechscale.records.shards import Shard, open_shard
from speechscale.study.engine import run_tasks
from speechscale.units.encode import CodeBookTask, ShardTask, encode_shard, is_encoded, make_code_book


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
    """Learn a code book in a worker, whose single thread adds in the same order whatever the machine."""
    ((_, (frames, faulty)),) = run_tasks(make_code_book, [task], label="k-means", workers=1)
    skipped = f"; {faulty} utterances of the sample could not be heard" if faulty else ""
    return f"{task.kmeans.clusters} units learnt from {frames} frames{skipped}."


def encode_all(tasks: Sequence[ShardTask], workers: int, label: str = "speech to units") -> Encoded:
    """Make the shards that do not stand yet.

    Raises:
        UserError: a shard was made from something else, or every utterance had to be skipped.
    """
    if not tasks:
        raise UserError("the manifest lists no utterances, so there is nothing to encode.")
    missing = [task for task in tasks if not is_encoded(task)]
    for _ in run_tasks(encode_shard, missing, label=label, workers=workers):
        pass
    encoded = summarise([open_shard(task.folder) for task in tasks])
    if not encoded.samples:
        raise UserError(
            f"{tasks[0].folder.parent}: no utterance is left; skips.jsonl in each shard says why."
        )
    return encoded


def summarise(shards: Sequence[Shard]) -> Encoded:
    return Encoded(
        shards=len(shards),
        samples=sum(shard.meta["num_samples"] for shard in shards),
        skipped=sum(shard.meta["num_skipped"] for shard in shards),
        units=sum(shard.meta["num_audio_steps"] for shard in shards),
        seconds=sum(shard.seconds or 0.0 for shard in shards),
    )
