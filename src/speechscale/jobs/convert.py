"""Conversion between shards and the unit files of other toolkits."""

from __future__ import annotations

from pathlib import Path

from speechscale.jobs.encode import ShardSummary, summarize_shards
from speechscale.records.shards import open_shards
from speechscale.units.formats import UnitFileInfo, read_units, write_units
from speechscale.workers.progress import spinner


def import_units(source: Path, info: UnitFileInfo, out: Path, units_per_shard: int) -> ShardSummary:
    """Convert a file of units to a folder of shards.

    Args:
        source: the file of units.
        info: its format, and what the file does not say itself.
        out: folder of the shards.
        units_per_shard: a shard is closed as soon as it has this many units.

    Raises:
        UserError: a broken line, or `out` holds something else.
    """
    with spinner("reading units"):
        read_units(source, info, out, units_per_shard)
    return summarize_shards(open_shards(out))


def export_units(shards: Path, format: str, out: Path, *, expand: bool) -> int:
    """Convert a folder of shards to a file of units; returns the number of utterances.

    Args:
        shards: folder of the shards.
        format: `fairseq`, `textless` or `slamkit`.
        out: the file to write.
        expand: write one entry per frame instead of one per run of equal units.

    Raises:
        UserError: an unknown format, shards of tokens, or durations that are needed and not known.
    """
    with spinner("writing units"):
        return write_units(open_shards(shards), format, out, expand=expand)
