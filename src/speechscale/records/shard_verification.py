"""Verification of shards: every byte, and everything that the format promises."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from speechscale.errors import UserError
from speechscale.records.seal import sha256_file
from speechscale.records.shards import DURATIONS, FILES, REMEDY, Sample, Shard, check_units, open_shard


def verify_shard(folder: Path) -> None:
    """Read every byte of a shard and compare it with `meta.json`.

    Raises:
        UserError: naming the first file that is missing, changed or inconsistent.
    """
    for problem in shard_problems(folder):
        raise UserError(problem)


def looks_like_shard(folder: Path) -> bool:
    """Whether a folder contains at least one of the three main files of a shard."""
    return any((folder / name).exists() for name in ("meta.json", "audio.bin", "audio.len"))


def shard_problems(folder: Path) -> Iterator[str]:
    """A sentence for every fault of a shard. Contents are checked only if all checksums agree."""
    try:
        shard = open_shard(folder)
        changed = list(_changed_files(shard))
        yield from changed
        if not changed:
            yield from _content_problems(shard, shard.rows())
    except UserError as error:
        yield str(error)


def _changed_files(shard: Shard) -> Iterator[str]:
    """Faults of all files with a checksum, which may include waveforms that other tools store."""
    checksums = shard.meta.checksums
    durations = {DURATIONS} if (shard.folder / DURATIONS).exists() else set()
    for name in sorted({*FILES, *durations, *checksums}):
        path = shard.folder / name
        if not path.resolve().is_relative_to(shard.folder.resolve()):
            yield f"{shard.folder / 'meta.json'}: lists {name!r}, which is outside the folder; {REMEDY}."
        elif not path.is_file() or sha256_file(path) != checksums.get(name):
            yield f"{path}: missing or changed since the shard was sealed; {REMEDY}."


def _content_problems(shard: Shard, rows: list[Any]) -> Iterator[str]:
    listed = shard.folder / "samples.jsonl"
    if not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        yield f"{listed}: a row is no object with an id; {REMEDY}."
        return
    if [row.get("audio_steps") for row in rows] != shard.lengths.tolist():
        yield f"{listed}: its audio_steps are not the lengths of audio.len; {REMEDY}."
        return
    if len({row["id"] for row in rows}) != len(rows):
        yield f"{listed}: repeats an id; {REMEDY}."
    yield from _skip_problems(shard)
    if shard.durations is not None and len(shard.durations) != len(shard.units):
        yield f"{shard.folder / DURATIONS}: has another length than audio.bin; {REMEDY}."
        return
    durations = shard.sample_durations() or repeat(None)
    for units, row, frames in zip(shard.samples(), rows, durations, strict=False):
        try:
            check_units(Sample(row["id"], units, None, row, frames), shard.preprocessing)
        except UserError as error:
            yield f"{shard.folder}: {str(error).rstrip('.')}; {REMEDY}."


def _skip_problems(shard: Shard) -> Iterator[str]:
    try:
        found, wanted = len(shard.skips()), shard.meta.num_skipped
    except UserError as error:
        yield str(error)
        return
    if found != wanted:
        yield f"{shard.folder / 'skips.jsonl'}: has {found} rows, meta.json says {wanted}; {REMEDY}."
