"""Shards of packed units or tokens, in the released format of the study (schema 2).

A shard is a folder: `audio.bin` (int16 units of all samples, flat), `audio.len` (int64 lengths), `samples.jsonl`
(one row a sample), `skips.jsonl` (utterances left out, with reasons), `meta.json` (see `ShardMeta`).
Every sample ends in the EOS unit. Beyond the released files and fields, `durations.bin` (int32) holds the number of
frames of each unit (EOS: 0), rows and meta hold `seconds` of audio, and meta holds the code and the revisions of the
stages that made the shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, field_validator

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.json_objects import JsonObject
from speechscale.records.revisions import require_revisions
from speechscale.records.seal import atomic_directory, differing_fields, sha256_file, sha256_json, write_json
from speechscale.records.validation import first_fault

SCHEMA_VERSION = 2
LARGEST_VOCABULARY = 2**15  # int16, EOS and PAD included
FILES = ("audio.bin", "audio.len", "samples.jsonl", "skips.jsonl")
DURATIONS = "durations.bin"
REMEDY = "remove the shard and encode it again"


def vocabulary_of(names: int) -> dict[str, int]:
    """Vocabulary fields of the released schema: units or tokens are 0 to `names` - 1, EOS and PAD follow."""
    return {"vocab_size": names + 2, "eos_token": names, "pad_token": names + 1}


class ShardMeta(BaseModel):
    """The content of `meta.json`; other tools may add fields.

    Attributes:
        schema_version: 2, as in the released code of the study.
        num_samples: utterances in the shard.
        num_audio_steps: units of all utterances, EOS included.
        num_skipped: utterances left out.
        keep_audio: whether waveforms are stored next to the units; only other tools do.
        seconds: of audio in all utterances; None where it is unknown for one of them.
        code: the code that made the shard; None for shards of other tools.
        preprocessing: how the units were made. `vocab_size`, `eos_token` and `kmeans` are in every shard; `revisions`
            holds the revision of every stage that made the shard.
        checksums: SHA-256 of the other files.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    schema_version: int
    num_samples: NonNegativeInt
    num_audio_steps: NonNegativeInt
    num_skipped: NonNegativeInt
    keep_audio: bool = False
    seconds: float | None = None
    code: CodeIdentity | None = None
    preprocessing: JsonObject
    checksums: dict[str, str]

    @field_validator("schema_version")
    @classmethod
    def _supported(cls, found: int) -> int:
        if found != SCHEMA_VERSION:
            raise ValueError(f"wanted {SCHEMA_VERSION}")
        return found

    @field_validator("preprocessing")
    @classmethod
    def _has_vocabulary(cls, found: JsonObject) -> JsonObject:
        for name in ("vocab_size", "eos_token"):
            value = found.get(name)
            if type(value) is not int or value < 0:  # bool is a subclass of int
                raise ValueError(f"{name} is {value!r}, wanted a count")
        return found


@dataclass(frozen=True)
class Sample:
    """Units of one utterance.

    Attributes:
        id: of the utterance.
        units: integers [units], EOS included.
        seconds: of audio; None where unknown.
        row: further fields of its line in `samples.jsonl`.
        durations: frames of each unit, integers [units], EOS 0; None where unknown.
    """

    id: str
    units: np.ndarray
    seconds: float | None
    row: Mapping[str, object]
    durations: np.ndarray | None = None


@dataclass(frozen=True)
class Skip:
    """An utterance left out: a short reason, which can be counted, and the detail."""

    id: str
    reason: str
    detail: str


def write_shard(
    folder: Path, samples: Iterable[Sample], skips: Iterable[Skip], preprocessing: Mapping[str, Any]
) -> None:
    """Write one shard, completely or not at all.

    Args:
        folder: the shard; it must not exist.
        samples: the utterances.
        skips: the utterances left out.
        preprocessing: JSON-able description of how the units were made, as in `ShardMeta`. `is_written` compares it.

    Raises:
        UserError: units outside the vocabulary, a sample without units or without EOS at its end, durations that do
            not match the units, or a vocabulary that exceeds int16.
        CannotWrite: the operating system refuses.
    """
    if preprocessing["vocab_size"] > LARGEST_VOCABULARY:
        raise UserError(
            f"{folder}: a vocabulary of {preprocessing['vocab_size']}, EOS and PAD included; "
            f"shards hold int16, so at most {LARGEST_VOCABULARY}."
        )
    samples, skips = list(samples), list(skips)
    for sample in samples:
        check_units(sample, preprocessing)
    files = list(FILES)
    if samples and all(sample.durations is not None for sample in samples):
        files.append(DURATIONS)
    units = [sample.units.astype("<i2") for sample in samples]
    lengths = np.array([len(sample) for sample in units], dtype="<i8")
    with atomic_directory(folder) as staging:
        (staging / "audio.bin").write_bytes(b"".join(sample.tobytes() for sample in units))
        (staging / "audio.len").write_bytes(lengths.tobytes())
        if DURATIONS in files:
            durations = [np.asarray(sample.durations, dtype="<i4") for sample in samples]
            (staging / DURATIONS).write_bytes(b"".join(sample.tobytes() for sample in durations))
        _write_lines(staging / "samples.jsonl", map(_row, samples))
        _write_lines(staging / "skips.jsonl", map(vars, skips))
        meta = ShardMeta(
            schema_version=SCHEMA_VERSION,
            num_samples=len(samples),
            num_audio_steps=int(lengths.sum()),
            num_skipped=len(skips),
            seconds=_total_seconds(samples),
            code=code_identity(),
            preprocessing=dict(preprocessing),
            checksums={name: sha256_file(staging / name) for name in files},
        )
        write_json(staging / "meta.json", meta.model_dump())


def _row(sample: Sample) -> dict[str, object]:
    seconds = {} if sample.seconds is None else {"seconds": round(sample.seconds, 6)}
    return {**sample.row, "id": sample.id, "audio_steps": len(sample.units), **seconds}


def _total_seconds(samples: list[Sample]) -> float | None:
    """None if one of them is unknown, because a partial sum would look like the total."""
    seconds = [sample.seconds for sample in samples if sample.seconds is not None]
    return round(sum(seconds), 6) if len(seconds) == len(samples) else None


def check_units(sample: Sample, preprocessing: Mapping[str, Any]) -> None:
    """Refuse units or durations that a shard cannot hold.

    Raises:
        UserError: units outside the vocabulary, no EOS at the end, or durations that do not match the units.
    """
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


def _write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class Shard:
    """An opened shard. Opening reads meta and lengths only; `verify_shard` reads everything."""

    folder: Path
    meta: ShardMeta
    lengths: np.ndarray  # int64 [samples]

    @property
    def seconds(self) -> float | None:
        """Seconds of audio; None where unknown."""
        return self.meta.seconds

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How the units were made; see `ShardMeta`."""
        return self.meta.preprocessing

    @property
    def vocabulary_size(self) -> int:
        """Number of units, EOS and PAD included."""
        return int(self.meta.preprocessing["vocab_size"])

    @property
    def eos(self) -> int:
        """The unit that ends every sample; also the number of units without EOS and PAD."""
        return int(self.meta.preprocessing["eos_token"])

    @cached_property
    def units(self) -> np.ndarray:
        """All units, flat, memory-mapped; int16 [num_audio_steps]."""
        return _memory_map(self.folder / "audio.bin", "<i2")

    @cached_property
    def durations(self) -> np.ndarray | None:
        """Frames of every unit, flat, memory-mapped; int32 [num_audio_steps]. None where unknown."""
        path = self.folder / DURATIONS
        return _memory_map(path, "<i4") if path.exists() else None

    def samples(self) -> list[np.ndarray]:
        """The units of each sample, EOS included, int16 [units]; views, not copies."""
        return self._split(self.units)

    def sample_durations(self) -> list[np.ndarray] | None:
        """The durations of each sample, int32 [units], aligned with `samples`; None where unknown."""
        return None if self.durations is None else self._split(self.durations)

    def _split(self, flat: np.ndarray) -> list[np.ndarray]:
        return np.split(flat, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def rows(self) -> list[JsonObject]:
        """The rows of `samples.jsonl`, aligned with `samples`.

        Raises:
            UserError: the file cannot be read as JSON Lines.
        """
        return list(self.iterate_rows())

    def iterate_rows(self) -> Iterator[JsonObject]:
        """The rows one by one, without holding all of them.

        Raises:
            UserError: the file cannot be read as JSON Lines.
        """
        return _read_lines(self.folder / "samples.jsonl")

    def skips(self) -> list[Skip]:
        """The utterances left out, from `skips.jsonl`.

        Raises:
            UserError: the file cannot be read as JSON Lines, or a row lacks id, reason or detail.
        """
        path = self.folder / "skips.jsonl"
        try:
            return [Skip(row["id"], row["reason"], row["detail"]) for row in _read_lines(path)]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: a row lacks id, reason or detail; {REMEDY}.") from error


def _memory_map(path: Path, kind: str) -> np.ndarray:
    """The integers of a file, memory-mapped; an empty file cannot be mapped and gives an empty array."""
    count = path.stat().st_size // np.dtype(kind).itemsize
    return np.memmap(path, dtype=kind, mode="r", shape=(count,)) if count else np.empty(0, dtype=kind)


def open_shard(folder: Path) -> Shard:
    """Open a shard, with all checks that do not read the units.

    Raises:
        UserError: no shard, another schema, or sizes that disagree.
    """
    folder = Path(folder)
    try:
        meta = ShardMeta.model_validate(json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        lengths = _memory_map(folder / "audio.len", "<i8")
        sizes = [(folder / name).stat().st_size for name in ("audio.len", "audio.bin")]
    except ValidationError as error:
        raise UserError(f"{folder / 'meta.json'}: {first_fault(error, 'the whole')}; {REMEDY}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder}: not a shard of units ({error}); {REMEDY}.") from error
    samples, units = meta.num_samples, meta.num_audio_steps
    found = (len(lengths), int(lengths.sum()), *sizes)
    wanted = (samples, units, 8 * samples, 2 * units)
    if found != wanted:
        raise UserError(
            f"{folder}: (samples, units, bytes of audio.len, bytes of audio.bin) are {found}, "
            f"meta.json says {wanted}; {REMEDY}."
        )
    if len(lengths) and lengths.min() < 1:
        raise UserError(
            f"{folder / 'audio.len'}: holds a length of {lengths.min()}, wanted 1 at least; {REMEDY}."
        )
    return Shard(folder, meta, lengths)


def is_written(folder: Path, preprocessing: Mapping[str, Any]) -> bool:
    """Whether the shard exists, made as `preprocessing` says by the same revisions of the stages.

    Raises:
        UserError: the shard exists, but was made differently (the differing fields are named) or by another revision.
    """
    if not Path(folder).exists():
        return False
    found, wanted = open_shard(folder), json.loads(json.dumps(dict(preprocessing)))
    require_revisions(
        folder, found.preprocessing.get("revisions", {}), wanted.get("revisions", {}), found.meta.code
    )
    differing = differing_fields(found.preprocessing, wanted)
    if differing:
        raise UserError(
            f"{folder}: was encoded otherwise: {'; '.join(differing)}. Choose another output folder."
        )
    return True


def open_shards(folder: Path) -> list[Shard]:
    """All finished shards of a folder, in the order of their names.

    Raises:
        UserError: no shards, some missing, or shards that were encoded differently.
    """
    shards = [open_shard(path.parent) for path in sorted(Path(folder).glob("[!.]*/meta.json"))]
    if not shards:
        raise UserError(f"{folder}: no shards of units here; `speechscale encode` makes them.")
    planned = shards[0].preprocessing.get("plan_num_shards", len(shards))
    if len(shards) != planned:
        raise UserError(f"{folder}: {len(shards)} of {planned} shards are here; run the same `encode` again.")
    for shard in shards[1:]:
        require_same_encoding(shard, shards[0])
    return shards


_PLAN_FIELDS = (
    "manifest_sha256",
    "plan_num_shards",
    "assignment_sha256",
    "num_assigned_records",
    "speech_revision",  # of the stage "speech", for speech that is synthesised when it is encoded
    "source_shard",  # of token shards: the shard of units that they were made from
    "selected",  # which of its utterances were selected
)


def encoding_of(shard: Shard) -> JsonObject:
    """The part of `preprocessing` that says how units were made, without the assignment of utterances to shards."""
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
    """SHA-256 of the model that turned units into tokens; None for shards of units."""
    return (shard.preprocessing.get("unigram") or {}).get("sha256")


def shards_identity(shards: list[Shard]) -> str:
    """One hash of the content of several shards, from their checksums."""
    return sha256_json([shard.meta.checksums for shard in shards])


def _read_lines(path: Path) -> Iterator[JsonObject]:
    try:
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON Lines ({error}); {REMEDY}.") from error
