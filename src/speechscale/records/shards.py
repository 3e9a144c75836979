"""Packed units on disk: the released shard format of the study (schema 2), and what may be read from it.

A shard is a folder: `audio.bin` (int16 units of all samples, flat), `audio.len` (int64 lengths), `samples.jsonl`
(one row a sample), `skips.jsonl` (what was left out, and why), `meta.json` (how it was made, and the SHA-256 of the
other files).
Every sample ends in the EOS unit. Beyond the released files and fields, `durations.bin` (int32) says for how many
frames each unit lasted (EOS: 0), and rows and meta carry `seconds` of audio.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.records.seal import differing_fields, published_folder, sha256_file, sha256_json, write_json

SCHEMA_VERSION = 2
LARGEST_VOCABULARY = 2**15  # int16, EOS and PAD included
_FILES = ("audio.bin", "audio.len", "samples.jsonl", "skips.jsonl")
_DURATIONS = "durations.bin"


@dataclass(frozen=True)
class Sample:
    """Units of one utterance (EOS included), its duration in seconds, and what else is known of it."""

    id: str
    units: np.ndarray
    seconds: float | None  # None where it is not known
    row: Mapping[str, Any]
    durations: np.ndarray | None = None  # frames of each unit, EOS 0; None where they are not known


@dataclass(frozen=True)
class Skip:
    """An utterance left out, and why."""

    id: str
    reason: str
    detail: str


def write_shard(
    folder: Path, samples: Iterable[Sample], skips: Iterable[Skip], preprocessing: Mapping[str, Any]
) -> None:
    """Write one shard under its final name, whole or not at all.

    Raises:
        UserError: units outside the vocabulary, a sample without units, one that does not end in EOS, durations
            that do not go with the units, or a vocabulary that int16 cannot hold.
    """
    if preprocessing["vocab_size"] > LARGEST_VOCABULARY:
        raise UserError(
            f"{folder}: a vocabulary of {preprocessing['vocab_size']}, EOS and PAD included; "
            f"shards hold int16, so at most {LARGEST_VOCABULARY}."
        )
    samples, skips = list(samples), list(skips)
    for sample in samples:
        _check_units(sample, preprocessing)
    files = list(_FILES)
    if samples and all(sample.durations is not None for sample in samples):
        files.append(_DURATIONS)
    rows = [_row(sample) for sample in samples]
    units = [sample.units.astype("<i2") for sample in samples]
    lengths = np.array([len(sample) for sample in units], dtype="<i8")
    with published_folder(folder) as aside:
        (aside / "audio.bin").write_bytes(b"".join(sample.tobytes() for sample in units))
        (aside / "audio.len").write_bytes(lengths.tobytes())
        if _DURATIONS in files:
            durations = [np.asarray(sample.durations, dtype="<i4") for sample in samples]
            (aside / _DURATIONS).write_bytes(b"".join(sample.tobytes() for sample in durations))
        _write_lines(aside / "samples.jsonl", rows)
        _write_lines(aside / "skips.jsonl", [vars(skip) for skip in skips])
        meta = {
            "schema_version": SCHEMA_VERSION,
            "num_samples": len(samples),
            "num_audio_steps": int(lengths.sum()),
            "num_skipped": len(skips),
            "keep_audio": False,
            "seconds": _total_seconds(samples),
            "preprocessing": dict(preprocessing),
            "checksums": {name: sha256_file(aside / name) for name in files},
        }
        write_json(aside / "meta.json", meta)


def _row(sample: Sample) -> dict[str, Any]:
    seconds = {} if sample.seconds is None else {"seconds": round(sample.seconds, 6)}
    return {**sample.row, "id": sample.id, "audio_steps": len(sample.units), **seconds}


def _total_seconds(samples: list[Sample]) -> float | None:
    """None as soon as one of them is not known: a sum of some would pass for the whole."""
    seconds = [sample.seconds for sample in samples if sample.seconds is not None]
    return round(sum(seconds), 6) if len(seconds) == len(samples) else None


def _check_units(sample: Sample, preprocessing: Mapping[str, Any]) -> None:
    units, eos = sample.units, preprocessing["eos_token"]
    if len(units) == 0 or units[-1] != eos:
        raise UserError(f"sample {sample.id}: units must end in EOS ({eos}); found {units[-3:].tolist()}.")
    if units.min() < 0 or units.max() >= preprocessing["vocab_size"]:
        raise UserError(
            f"sample {sample.id}: units span {units.min()} to {units.max()}; "
            f"the vocabulary allows 0 to {preprocessing['vocab_size'] - 1}."
        )
    durations = sample.durations
    if durations is not None and (
        len(durations) != len(units) or durations[-1] or (durations[:-1] < 1).any()
    ):
        raise UserError(
            f"sample {sample.id}: wanted one duration of a frame or more for each unit, and 0 for EOS."
        )


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class Shard:
    """An opened shard. Opening reads meta and lengths only; `verify_shard` reads everything."""

    folder: Path
    meta: Mapping[str, Any]
    lengths: np.ndarray  # int64 [samples]

    @property
    def seconds(self) -> float | None:
        """Seconds of audio; shards of other makers do not say."""
        return self.meta.get("seconds")

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        return self.meta["preprocessing"]

    @cached_property
    def units(self) -> np.ndarray:
        """All units, flat, mapped from disk; int16 [num_audio_steps]."""
        if not len(self.lengths):
            return np.empty(0, dtype="<i2")
        return np.memmap(self.folder / "audio.bin", dtype="<i2", mode="r")

    @cached_property
    def durations(self) -> np.ndarray | None:
        """Frames of every unit, flat, mapped from disk; int32 [num_audio_steps]. None where they were not kept."""
        path = self.folder / _DURATIONS
        return np.memmap(path, dtype="<i4", mode="r") if path.exists() and len(self.lengths) else None

    def samples(self) -> list[np.ndarray]:
        """The units of each sample, EOS included; views, not copies."""
        return self._split(self.units)

    def sample_durations(self) -> list[np.ndarray] | None:
        """The durations of each sample, aligned with `samples`."""
        return None if self.durations is None else self._split(self.durations)

    def _split(self, flat: np.ndarray) -> list[np.ndarray]:
        return np.split(flat, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def rows(self) -> list[dict[str, Any]]:
        return _read_lines(self.folder / "samples.jsonl")

    def skips(self) -> list[dict[str, Any]]:
        return _read_lines(self.folder / "skips.jsonl")


def open_shard(folder: Path) -> Shard:
    """Open a shard, checking what can be checked without reading the units.

    Raises:
        UserError: no shard, another schema, or sizes that disagree.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        lengths = np.fromfile(folder / "audio.len", dtype="<i8")
        size = (folder / "audio.bin").stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a shard of units ({error}); encode it again.") from error
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{folder}: shard schema {meta.get('schema_version')}, wanted {SCHEMA_VERSION}.")
    found = (len(lengths), int(lengths.sum()), size)
    wanted = (meta.get("num_samples"), meta.get("num_audio_steps"), 2 * int(meta.get("num_audio_steps", -1)))
    if found != wanted or (len(lengths) and lengths.min() < 1):
        raise UserError(
            f"{folder}: (samples, units, bytes of audio.bin) are {found}, meta.json says {wanted}; encode it again."
        )
    return Shard(folder, meta, lengths)


def is_written(folder: Path, preprocessing: Mapping[str, Any]) -> bool:
    """Whether the shard stands already, made in exactly this way.

    Raises:
        UserError: it stands, but was made otherwise; the differing fields are named.
    """
    if not Path(folder).exists():
        return False
    differing = differing_fields(
        open_shard(folder).preprocessing, json.loads(json.dumps(dict(preprocessing)))
    )
    if differing:
        raise UserError(
            f"{folder}: was encoded otherwise: {'; '.join(differing)}. Choose another output folder."
        )
    return True


def open_shards(folder: Path) -> list[Shard]:
    """All shards of a folder in name order; those in the making are not seen.

    Raises:
        UserError: none there, some missing, or shards that were not made alike.
    """
    names = sorted(path.parent for path in Path(folder).glob("[!.]*/meta.json"))
    shards = [open_shard(name) for name in names]
    if not shards:
        raise UserError(f"{folder}: no shards of units here; `speechscale encode` makes them.")
    planned = shards[0].preprocessing.get("plan_num_shards", len(shards))
    if len(shards) != planned:
        raise UserError(f"{folder}: {len(shards)} of {planned} shards are here; run the same `encode` again.")
    for shard in shards[1:]:
        differing = differing_fields(encoding_of(shard), encoding_of(shards[0]))
        if differing:
            raise UserError(
                f"{shard.folder} and {shards[0].folder} were encoded differently: {'; '.join(differing)}."
            )
    return shards


def verify_shard(folder: Path) -> None:
    """Read everything and compare it with `meta.json`.

    Raises:
        UserError: naming the first file that is missing, changed or inconsistent.
    """
    shard = open_shard(folder)
    for name, wanted in shard.meta["checksums"].items():
        path = shard.folder / name
        if not path.is_file() or sha256_file(path) != wanted:
            raise UserError(f"{path}: missing or changed since the shard was sealed; encode it again.")
    rows, skips = shard.rows(), shard.skips()
    if [row["audio_steps"] for row in rows] != shard.lengths.tolist():
        raise UserError(f"{folder}: samples.jsonl and audio.len disagree on lengths.")
    if len({row["id"] for row in rows}) != len(rows) or len(skips) != shard.meta["num_skipped"]:
        raise UserError(
            f"{folder}: samples.jsonl repeats an id, or skips.jsonl has another count than meta.json."
        )
    durations = shard.sample_durations() or repeat(None)
    for units, row, frames in zip(shard.samples(), rows, durations, strict=False):
        _check_units(Sample(row["id"], units, None, row, frames), shard.preprocessing)


_PLAN_FIELDS = (
    "manifest_sha256",
    "plan_num_shards",
    "assignment_sha256",
    "num_assigned_records",
    "source_shard",  # of token shards: the shard of units they were made from
)


def encoding_of(shard: Shard) -> dict[str, Any]:
    """How units were made, without which utterances went where."""
    return {key: value for key, value in shard.preprocessing.items() if key not in _PLAN_FIELDS}


def unigram_of(shard: Shard) -> str | None:
    """The SHA-256 of the model that joined units to tokens; None for shards of units."""
    return (shard.preprocessing.get("unigram") or {}).get("sha256")


def shards_identity(shards: list[Shard]) -> str:
    """One hash for the content of several shards, from their checksums."""
    return sha256_json([dict(shard.meta["checksums"]) for shard in shards])


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON Lines ({error}); encode the shard again.") from error
