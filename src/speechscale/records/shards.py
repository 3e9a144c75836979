"""Packed units on disk: the released shard format of the study (schema 2), and what may be read from it.

A shard is a folder: `audio.bin` (int16 units of all samples, flat), `audio.len` (int64 lengths), `samples.jsonl`
(one row a sample), `skips.jsonl` (what was left out, and why), `meta.json` (how it was made, and the SHA-256 of the
other files).
Every sample ends in the EOS unit. Beyond the released files and fields, `durations.bin` (int32) says for how many
frames each unit lasted (EOS: 0), and rows and meta carry `seconds` of audio.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.records.seal import atomic_directory, differing_fields, sha256_file, sha256_json, write_json

SCHEMA_VERSION = 2
LARGEST_VOCABULARY = 2**15  # int16, EOS and PAD included
_FILES = ("audio.bin", "audio.len", "samples.jsonl", "skips.jsonl")
_DURATIONS = "durations.bin"
_REMEDY = "remove the shard and encode it again"


def vocabulary_of(names: int) -> dict[str, int]:
    """Units or tokens are 0 to `names` - 1, then come EOS and PAD, as in the released schema."""
    return {"vocab_size": names + 2, "eos_token": names, "pad_token": names + 1}


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
    with atomic_directory(folder) as aside:
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
        return _mapped(self.folder / "audio.bin", "<i2")

    @cached_property
    def durations(self) -> np.ndarray | None:
        """Frames of every unit, flat, mapped from disk; int32 [num_audio_steps]. None where they were not kept."""
        path = self.folder / _DURATIONS
        return _mapped(path, "<i4") if path.exists() else None

    def samples(self) -> list[np.ndarray]:
        """The units of each sample, EOS included; views, not copies."""
        return self._split(self.units)

    def sample_durations(self) -> list[np.ndarray] | None:
        """The durations of each sample, aligned with `samples`."""
        return None if self.durations is None else self._split(self.durations)

    def _split(self, flat: np.ndarray) -> list[np.ndarray]:
        return np.split(flat, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def rows(self) -> list[dict[str, Any]]:
        return list(self.each_row())

    def each_row(self) -> Iterator[dict[str, Any]]:
        """The rows one by one, as they are read."""
        return _each_line(self.folder / "samples.jsonl")

    def skips(self) -> list[dict[str, Any]]:
        return list(_each_line(self.folder / "skips.jsonl"))


def _mapped(path: Path, kind: str) -> np.ndarray:
    """The whole numbers of a file, read where they are looked at; a file of none cannot be mapped."""
    count = path.stat().st_size // np.dtype(kind).itemsize
    return np.memmap(path, dtype=kind, mode="r", shape=(count,)) if count else np.empty(0, dtype=kind)


def open_shard(folder: Path) -> Shard:
    """Open a shard, checking what can be checked without reading the units.

    Raises:
        UserError: no shard, another schema, or sizes that disagree.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        lengths = _mapped(folder / "audio.len", "<i8")
        sizes = [(folder / name).stat().st_size for name in ("audio.len", "audio.bin")]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder}: not a shard of units ({error}); {_REMEDY}.") from error
    if problem := _meta_problem(meta):
        raise UserError(f"{folder / 'meta.json'}: {problem}; {_REMEDY}.")
    samples, units = meta["num_samples"], meta["num_audio_steps"]
    found = (len(lengths), int(lengths.sum()), *sizes)
    wanted = (samples, units, 8 * samples, 2 * units)
    if found != wanted:
        raise UserError(
            f"{folder}: (samples, units, bytes of audio.len, bytes of audio.bin) are {found}, "
            f"meta.json says {wanted}; {_REMEDY}."
        )
    if len(lengths) and lengths.min() < 1:
        raise UserError(
            f"{folder / 'audio.len'}: holds a length of {lengths.min()}, wanted 1 at least; {_REMEDY}."
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


def _meta_problem(meta: Any) -> str | None:
    """What keeps a `meta.json` from being read further."""
    if not isinstance(meta, dict):
        return "not a JSON object"
    if meta.get("schema_version") != SCHEMA_VERSION:
        return f"schema_version is {meta.get('schema_version')!r}, wanted {SCHEMA_VERSION}"
    for name in ("preprocessing", "checksums"):
        if not isinstance(meta.get(name), dict):
            return f"{name} is {meta.get(name)!r}, wanted an object"
    counts = {name: meta.get(name) for name in ("num_samples", "num_audio_steps", "num_skipped")}
    units = {f"preprocessing.{name}": meta["preprocessing"].get(name) for name in ("vocab_size", "eos_token")}
    for name, value in (counts | units).items():
        if type(value) is not int or value < 0:  # bool is an int, too
            return f"{name} is {value!r}, wanted a count"
    return None


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
        require_same_encoding(shard, shards[0])
    return shards


def verify_shard(folder: Path) -> None:
    """Read everything and compare it with `meta.json`.

    Raises:
        UserError: naming the first thing that is missing, changed or inconsistent.
    """
    for problem in shard_problems(folder):
        raise UserError(problem)


def looks_like_shard(folder: Path) -> bool:
    """Whether a folder holds a file of a shard, were it the last one left."""
    return any((folder / name).exists() for name in ("meta.json", "audio.bin", "audio.len"))


def shard_problems(folder: Path) -> Iterator[str]:
    """A sentence for everything that is wrong with a shard. What hangs on something wrong is not looked at."""
    try:
        shard = open_shard(folder)
        changed = list(_changed_files(shard))
        yield from changed
        if not changed:
            yield from _content_problems(shard, shard.rows(), shard.skips())
    except UserError as error:
        yield str(error)


def _changed_files(shard: Shard) -> Iterator[str]:
    """Of all files that are sealed; other makers keep waveforms there, too."""
    checksums = shard.meta["checksums"]
    durations = {_DURATIONS} if (shard.folder / _DURATIONS).exists() else set()
    for name in sorted({*_FILES, *durations, *checksums}):
        path = shard.folder / name
        if not path.resolve().is_relative_to(shard.folder.resolve()):
            yield f"{shard.folder / 'meta.json'}: lists {name!r}, which lies outside; {_REMEDY}."
        elif not path.is_file() or sha256_file(path) != checksums.get(name):
            yield f"{path}: missing or changed since the shard was sealed; {_REMEDY}."


def _content_problems(shard: Shard, rows: list[Any], skips: list[Any]) -> Iterator[str]:
    listed, skipped = shard.folder / "samples.jsonl", shard.folder / "skips.jsonl"
    if not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        yield f"{listed}: a row is no object with an id; {_REMEDY}."
        return
    if [row.get("audio_steps") for row in rows] != shard.lengths.tolist():
        yield f"{listed}: its audio_steps are not the lengths of audio.len; {_REMEDY}."
        return
    if len({row["id"] for row in rows}) != len(rows):
        yield f"{listed}: repeats an id; {_REMEDY}."
    if len(skips) != shard.meta["num_skipped"]:
        yield f"{skipped}: has {len(skips)} rows, meta.json says {shard.meta['num_skipped']}; {_REMEDY}."
    if not all(isinstance(skip, dict) and {"id", "reason", "detail"} <= skip.keys() for skip in skips):
        yield f"{skipped}: a row lacks id, reason or detail; {_REMEDY}."
    if shard.durations is not None and len(shard.durations) != len(shard.units):
        yield f"{shard.folder / _DURATIONS}: has another length than audio.bin; {_REMEDY}."
        return
    durations = shard.sample_durations() or repeat(None)
    for units, row, frames in zip(shard.samples(), rows, durations, strict=False):
        try:
            _check_units(Sample(row["id"], units, None, row, frames), shard.preprocessing)
        except UserError as error:
            yield f"{shard.folder}: {str(error).rstrip('.')}; {_REMEDY}."


_PLAN_FIELDS = (
    "manifest_sha256",
    "plan_num_shards",
    "assignment_sha256",
    "num_assigned_records",
    "source_shard",  # of token shards: the shard of units they were made from
    "selected",  # which of its utterances were taken
)


def encoding_of(shard: Shard) -> dict[str, Any]:
    """How units were made, without which utterances went where."""
    return {key: value for key, value in shard.preprocessing.items() if key not in _PLAN_FIELDS}


def require_same_encoding(shard: Shard, reference: Shard) -> None:
    """Check that the units of two shards have the same meaning, so that one model can read both.

    Raises:
        UserError: naming both folders and the fields of `encoding_of` that differ.
    """
    differing = differing_fields(encoding_of(shard), encoding_of(reference))
    if differing:
        raise UserError(
            f"{shard.folder} and {reference.folder} were encoded differently: {'; '.join(differing)}. "
            "Encode one of them again as the other was, or leave it out."
        )


def unigram_identity(shard: Shard) -> str | None:
    """The SHA-256 of the model that joined units to tokens; None for shards of units."""
    return (shard.preprocessing.get("unigram") or {}).get("sha256")


def shards_identity(shards: list[Shard]) -> str:
    """One hash for the content of several shards, from their checksums."""
    return sha256_json([dict(shard.meta["checksums"]) for shard in shards])


def _each_line(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON Lines ({error}); {_REMEDY}.") from error
