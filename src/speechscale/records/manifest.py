"""Manifests: lists of utterances as JSON Lines, with the field names of the study's own manifests.

The audio of an utterance is in a file (`audio`, a path relative to the manifest's folder), or is synthesised from
`synthesis` whenever it is needed, because synthetic speech depends on text, voice and seed alone.

Writing, reading and slicing a manifest take one pass each. They keep eight bytes of each utterance, a hash that finds
repeated ids, so that manifests may have millions of lines.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.seal import atomic_write
from speechscale.records.validation import first_fault, shortened

SAMPLE_RATE = 16_000  # Hz, of every waveform that one room passes to another


class Synthesis(BaseModel):
    """How an utterance is synthesised: everything that its waveform depends on besides the transcript."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    voice: str
    words_per_minute: int
    seed: int
    phonemes: bool = False  # the transcript is in the phoneme mnemonics of the engine, not in letters


class Utterance(BaseModel):
    """One segment of speech by one speaker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    split: str = Field(min_length=1)
    audio: str | None = None
    row: int | None = Field(default=None, ge=0)  # of a Parquet file, if `audio` is one
    column: str | None = None  # of audio in that file; None: its only one, or the one named `audio`
    channel: int | None = Field(default=None, ge=0)  # None: the mean of all channels
    sample_rate: int | None = Field(default=None, gt=0)
    duration: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # seconds
    offset: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # seconds
    transcript: str | None = None
    speaker: str | None = None
    source_revision: str | None = None
    synthesis: Synthesis | None = None
    extra: JsonObject = {}


def write_manifest(utterances: Iterable[Utterance], path: Path, source: str | None = None) -> int:
    """Write a manifest, completely or not at all.

    Args:
        utterances: in the order of the manifest.
        path: the manifest.
        source: where the ids come from, for the error message about a repeated id; None: the manifest.

    Returns:
        The number of utterances.

    Raises:
        UserError: two utterances share an id.
        CannotWrite: the operating system refuses.
    """
    ids = Ids()
    with atomic_write(path) as stream:
        for utterance in utterances:
            ids.add(utterance.id)
            stream.write(utterance.model_dump_json(exclude_defaults=True).encode() + b"\n")
        stream.flush()
        if repetition := _first_repetition(Path(stream.name), ids.duplicate_hashes()):
            raise UserError(
                f"{source or path}: the id {repetition[0]!r} occurs twice; ids must be unique in a manifest."
            )
    return len(ids)


def read_manifest(path: Path) -> Iterator[Utterance]:
    """The utterances of a manifest, in order.

    Raises:
        UserError: naming file, line and field of the first fault. A repeated id is found after the last line.
    """
    for utterance, _ in _utterances_with_ends(path):
        yield utterance


def manifest_problems(path: Path) -> Iterator[str]:
    """A sentence for every faulty line; if there is none, for the first repeated id, or for an empty manifest."""
    ids, faulty = Ids(), 0
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    ids.add(_parse(line, f"{path}:{number}").id)
                except UserError as error:
                    faulty += 1
                    yield str(error)
    if not faulty and (repetition := _first_repetition(path, ids.duplicate_hashes())):
        yield _repetition_message(path, *repetition)
    if not faulty and not len(ids):
        yield f"{path}: lists no utterances; write the manifest again."


@dataclass(frozen=True)
class ManifestSlice:
    """Consecutive utterances of a manifest, as a byte range of the file.

    Attributes:
        manifest: the file.
        start: of the range, in bytes.
        end: of the range, in bytes.
        count: number of utterances.
        seconds: of audio, estimated for utterances that are not synthesised yet.
        split: the only split whose utterances are included; None: all.
        synthetic: whether any utterance is synthesised when it is read, so that units depend on the stage "speech".
    """

    manifest: Path
    start: int
    end: int
    count: int
    seconds: float
    split: str | None = None
    synthetic: bool = False

    def utterances(self) -> Iterator[Utterance]:
        """The utterances, read from the file.

        Raises:
            UserError: a line is faulty, because the manifest was changed after it was sliced.
        """
        with _open(self.manifest) as stream:
            stream.seek(self.start)
            while stream.tell() < self.end:
                line = stream.readline()
                if line.strip():
                    utterance = _parse(line, f"{self.manifest}: byte {stream.tell() - len(line)}")
                    if self.split in (None, utterance.split):
                        yield utterance


def cut_manifest(path: Path, seconds: float, split: str | None = None) -> list[ManifestSlice]:
    """Slices of at least `seconds` of audio each, except the last, in order; `split`: of this split only.

    Raises:
        UserError: as `read_manifest`; every line is read.
    """
    slices: list[ManifestSlice] = []
    start = end = count = 0
    length, synthetic = 0.0, False
    for utterance, end in _utterances_with_ends(path):
        if split not in (None, utterance.split):
            continue
        count, length = count + 1, length + seconds_of(utterance)
        synthetic |= utterance.audio is None and utterance.synthesis is not None
        if length >= seconds:
            slices.append(ManifestSlice(path, start, end, count, length, split, synthetic))
            start, count, length, synthetic = end, 0, 0.0, False
    if count:
        slices.append(ManifestSlice(path, start, end, count, length, split, synthetic))
    return slices


def sample_manifest(path: Path, count: int, seed: int, split: str | None = None) -> list[Utterance]:
    """`count` utterances drawn without replacement, in the order of the draw, which depends on ids and seed alone.

    Args:
        path: the manifest.
        count: number of utterances; fewer where the manifest has fewer.
        seed: of the draw.
        split: draw from this split only; None: from all.

    Raises:
        UserError: as `read_manifest`; every line is read.
    """
    eligible = (utterance for utterance in read_manifest(path) if split in (None, utterance.split))
    return nsmallest(count, eligible, key=lambda utterance: id_hash(f"{seed}/{utterance.id}"))


def seconds_of(utterance: Utterance) -> float:
    """Seconds of audio; if unknown, an estimate from words and speaking rate for synthetic speech, else 10."""
    if utterance.duration is not None:
        return utterance.duration
    if utterance.synthesis and utterance.transcript:
        return 60 * len(utterance.transcript.split()) / utterance.synthesis.words_per_minute
    return 10.0


def _utterances_with_ends(path: Path) -> Iterator[tuple[Utterance, int]]:
    """The utterance of every line that is not blank, and the byte offset of the end of the line."""
    ids, end = Ids(), 0
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            end += len(line)
            if line.strip():
                utterance = _parse(line, f"{path}:{number}")
                ids.add(utterance.id)
                yield utterance, end
    if repetition := _first_repetition(path, ids.duplicate_hashes()):
        raise UserError(_repetition_message(path, *repetition))


def _repetition_message(path: Path, name: str, number: int) -> str:
    return f"{path}:{number}: the id {name!r} occurs a second time; ids must be unique."


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); a manifest (JSON Lines) is wanted."
        ) from error
    with stream:
        yield stream


class Ids:
    """Finds repeated ids; keeps eight bytes of each id."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: str) -> None:
        """Count an id."""
        self._hashes.append(id_hash(name))

    def duplicate_hashes(self) -> set[int]:
        """Hashes that occur more than once: of repeated ids, or by chance (probability 10^-5 for ten million ids)."""
        ordered = np.sort(np.array(self._hashes, dtype=np.uint64))
        return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def id_hash(name: str) -> int:
    """64-bit hash of a name, equal on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def _first_repetition(path: Path, duplicate_hashes: set[int]) -> tuple[str, int] | None:
    """The first id that occurred before, and its line."""
    seen: set[str] = set()
    with path.open("rb") as stream:
        for number, line in enumerate(stream if duplicate_hashes else (), start=1):
            name = json.loads(line)["id"] if line.strip() else ""
            if name in seen:
                return name, number
            if name and id_hash(name) in duplicate_hashes:
                seen.add(name)
    return None


def _parse(line: bytes, where: str) -> Utterance:
    try:
        utterance = Utterance.model_validate(json.loads(line))
        utterance.id.encode()
        return utterance
    except ValidationError as error:
        why = first_fault(error, "the line")
    except UnicodeEncodeError as error:  # JSON can escape a lone surrogate, which UTF-8 cannot encode
        why = f"id: no text ({error.reason})"
    except (ValueError, RecursionError) as error:
        why = f"not a JSON object ({shortened(str(error))})"
    raise UserError(f"{where}: {why}. Correct the line, or write the manifest again.")
