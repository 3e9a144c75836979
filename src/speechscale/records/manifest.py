"""Utterance and Manifest: what is to be heard, one JSON line an utterance.

The field names are those of the study's own manifest. An utterance either lies in a file
(`audio`, a path relative to the manifest's folder) or can be spoken again at any time from `synthesis`, because
synthetic speech is a function of (text, voice, seed) alone.

Manifests of millions of utterances are written, read and cut in one pass each; what is kept of an utterance passed by
is eight bytes, by which a repeated id is noticed.
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
from typing import Any, BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speechscale.errors import UserError
from speechscale.records.seal import atomic_write
from speechscale.records.validation import first_fault, shortened

SAMPLE_RATE = 16_000  # Hz; what every waveform that passes a door is sampled at


class Synthesis(BaseModel):
    """How to speak an utterance: everything its samples depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    voice: str
    words_per_minute: int
    seed: int
    phonemes: bool = False  # the transcript is phoneme mnemonics of the engine, not spelling


class Utterance(BaseModel):
    """One stretch of speech by one speaker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    split: str = Field(min_length=1)
    audio: str | None = None
    row: int | None = Field(default=None, ge=0)  # of a Parquet file, where `audio` names one
    column: str | None = None  # of audio in that file; None: its only one, or the one that is named `audio`
    channel: int | None = Field(default=None, ge=0)  # the one that holds it; None: the mean of all
    sample_rate: int | None = Field(default=None, gt=0)
    duration: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # seconds
    offset: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # seconds
    transcript: str | None = None
    speaker: str | None = None
    source_revision: str | None = None
    synthesis: Synthesis | None = None
    extra: dict[str, Any] = {}


def write_manifest(utterances: Iterable[Utterance], path: Path, source: str | None = None) -> int:
    """Write a manifest, whole or not at all; returns the number of utterances.

    `source` is what the sentence about a repeated id names, where the ids come from elsewhere.

    Raises:
        UserError: two utterances share an id.
    """
    ids = Ids()
    with atomic_write(path) as stream:
        for utterance in utterances:
            ids.add(utterance.id)
            stream.write(utterance.model_dump_json(exclude_defaults=True).encode() + b"\n")
        stream.flush()
        if repetition := _repetition(Path(stream.name), ids.suspects()):
            raise UserError(
                f"{source or path}: the id {repetition[0]!r} occurs twice; ids must be unique in a manifest."
            )
    return len(ids)


def read_manifest(path: Path) -> Iterator[Utterance]:
    """The utterances of a manifest, in order. A repeated id is noticed at the end.

    Raises:
        UserError: naming file, line and field of what is wrong.
    """
    for utterance, _ in _lines(path):
        yield utterance


def manifest_problems(path: Path) -> Iterator[str]:
    """A sentence for every line that is wrong; a repeated id is told (the first one) when the lines are right."""
    ids, wrong = Ids(), 0
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    ids.add(_parse(line, f"{path}:{number}").id)
                except UserError as error:
                    wrong += 1
                    yield str(error)
    if not wrong and (repetition := _repetition(path, ids.suspects())):
        yield _repeated(path, *repetition)
    if not wrong and not len(ids):
        yield f"{path}: lists no utterances; write the manifest again."


@dataclass(frozen=True)
class ManifestSlice:
    """Neighbouring utterances of a manifest: what one shard is made of. Small, however many they are."""

    manifest: Path
    start: int  # bytes
    end: int  # bytes
    count: int  # utterances
    seconds: float  # of audio; where they are still to be spoken, an estimate
    split: str | None = None  # only utterances of this split

    def utterances(self) -> Iterator[Utterance]:
        """The utterances, read from the file."""
        with _opened(self.manifest) as stream:
            stream.seek(self.start)
            while stream.tell() < self.end:
                line = stream.readline()
                if line.strip():
                    utterance = _parse(line, f"{self.manifest}: byte {stream.tell() - len(line)}")
                    if self.split in (None, utterance.split):
                        yield utterance


def cut_manifest(path: Path, seconds: float, split: str | None = None) -> list[ManifestSlice]:
    """Cut a manifest into stretches of at least `seconds` of audio each (but the last), in order.

    Raises:
        UserError: as `read_manifest`, which reads every line.
    """
    stretches: list[ManifestSlice] = []
    start = end = count = 0
    length = 0.0
    for utterance, end in _lines(path):
        if split not in (None, utterance.split):
            continue
        count, length = count + 1, length + seconds_of(utterance)
        if length >= seconds:
            stretches.append(ManifestSlice(path, start, end, count, length, split))
            start, count, length = end, 0, 0.0
    if count:
        stretches.append(ManifestSlice(path, start, end, count, length, split))
    return stretches


def sample_manifest(path: Path, count: int, seed: int, split: str | None = None) -> list[Utterance]:
    """`count` utterances drawn without replacement, in the order of the draw; it depends on ids and seed alone.

    Raises:
        UserError: as `read_manifest`, which reads every line.
    """
    eligible = (utterance for utterance in read_manifest(path) if split in (None, utterance.split))
    return nsmallest(count, eligible, key=lambda utterance: id_hash(f"{seed}/{utterance.id}"))


def seconds_of(utterance: Utterance) -> float:
    """Seconds of audio; of what is still to be spoken, an estimate from words and speaking rate; else 10."""
    if utterance.duration is not None:
        return utterance.duration
    if utterance.synthesis and utterance.transcript:
        return 60 * len(utterance.transcript.split()) / utterance.synthesis.words_per_minute
    return 10.0


def _lines(path: Path) -> Iterator[tuple[Utterance, int]]:
    """The utterance of every line that is not blank, and where the line ends, in bytes."""
    ids, end = Ids(), 0
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            end += len(line)
            if line.strip():
                utterance = _parse(line, f"{path}:{number}")
                ids.add(utterance.id)
                yield utterance, end
    if repetition := _repetition(path, ids.suspects()):
        raise UserError(_repeated(path, *repetition))


def _repeated(path: Path, name: str, number: int) -> str:
    return f"{path}:{number}: the id {name!r} occurs a second time; ids must be unique."


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); a manifest (JSON Lines) is wanted."
        ) from error
    with stream:
        yield stream


class Ids:
    """Notices that an id came before, at eight bytes an id."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: str) -> None:
        self._hashes.append(id_hash(name))

    def suspects(self) -> set[int]:
        """The hashes that occur more than once: of repeated ids, or (once in 10^5 for ten million ids) by chance."""
        ordered = np.sort(np.array(self._hashes, dtype=np.uint64))
        return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def id_hash(name: str) -> int:
    """64 bits of a name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def _repetition(path: Path, suspects: set[int]) -> tuple[str, int] | None:
    """The first id that came before, and its line."""
    seen: set[str] = set()
    with path.open("rb") as stream:
        for number, line in enumerate(stream if suspects else (), start=1):
            name = json.loads(line)["id"] if line.strip() else ""
            if name in seen:
                return name, number
            if name and id_hash(name) in suspects:
                seen.add(name)
    return None


def _parse(line: bytes, where: str) -> Utterance:
    try:
        utterance = Utterance.model_validate(json.loads(line))
        utterance.id.encode()
        return utterance
    except ValidationError as error:
        why = first_fault(error, "the line")
    except UnicodeEncodeError as error:  # JSON can escape half a character, which no file can hold
        why = f"id: no text ({error.reason})"
    except (ValueError, RecursionError) as error:
        why = f"not a JSON object ({shortened(str(error))})"
    raise UserError(f"{where}: {why}. Correct the line, or write the manifest again.")
