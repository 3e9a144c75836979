"""Shards with the utterances of one dataset, selected from shards of several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.revisions import STAGE_REVISIONS
from speechscale.records.shards import Sample, Shard, open_shards
from speechscale.tokens.derived import copied_row, write_derived_shards


def write_subset(source: Path, out: Path, dataset: str) -> None:
    """Write one shard for each shard of `source`, with its utterances of one dataset; existing shards are kept.

    Raises:
        UserError: no utterance of the dataset, or an existing shard was made from something else.
    """
    shards = open_shards(source)
    found = sorted({row["dataset"] for shard in shards for row in shard.rows()})
    if dataset not in found:
        raise UserError(f"{source}: no utterance of {dataset!r} here; found {', '.join(found)}.")
    changes = {"selected": {"dataset": dataset, "revision": STAGE_REVISIONS["subset"]}}
    write_derived_shards(shards, out, lambda shard: _samples_of(shard, dataset), changes)


def _samples_of(shard: Shard, dataset: str) -> Iterator[Sample]:
    durations = shard.sample_durations() or repeat(None)
    for row, units, frames in zip(shard.rows(), shard.samples(), durations, strict=False):
        if row["dataset"] == dataset:
            yield Sample(row["id"], units, row.get("seconds"), copied_row(row), frames)
