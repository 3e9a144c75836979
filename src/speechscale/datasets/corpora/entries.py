"""What a layout tells of an utterance, compared with its audio: an utterance of the manifest, or a skip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip
from speechscale.speech.audio.decode import END_TOLERANCE_SECONDS, Recording, resolve_inside
from speechscale.speech.audio.recordings import RecordingCache

Entry = Utterance | Skip
TRAIN = "train"  # the split of an utterance of which the corpus says none


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk, and how to read it."""

    path: Path
    layout: str
    root: Path  # what audio paths in its manifest are relative to; nothing outside is read
    dataset: str
    trust_durations: bool = False  # a stated duration is taken without a look into the file


class AudioChecker:
    """Looks at the audio of utterances; use it in a `with` block."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._recordings = RecordingCache(corpus.root)

    def entry(
        self, where: str, told: Mapping[str, Any], *, whole: bool = False, samples: int | None = None
    ) -> Entry:
        """The utterance that a layout tells of in the fields of `Utterance`, once its audio bears it out.

        `where` names it in a skip. `audio` may be absolute. `whole`: the stated duration is that of the file, which
        `samples` may say instead.
        """
        return as_entry(where, told, lambda utterance: self._compared(utterance, whole, samples))

    def _compared(self, told: Utterance, whole: bool, samples: int | None) -> Utterance:
        if told.audio is None:
            if told.synthesis:
                return told
            raise SampleFault(
                "no audio", "no audio is named; speak a text with `speechscale synthesize` first"
            )
        path = resolve_inside(self.corpus.root, told.audio)
        audio = told.audio
        if Path(audio).is_absolute():
            audio = path.relative_to(self.corpus.root).as_posix()
        if self.corpus.trust_durations and told.duration is not None:
            if not path.is_file():
                raise SampleFault("missing", f"{audio}: no such file; restore it or correct the list")
            return told.model_copy(update={"audio": audio})
        told = told.model_copy(update={"audio": audio})
        recording = self._recordings.open(told)
        if samples is not None:
            whole, told = True, told.model_copy(update={"duration": samples / recording.sample_rate})
        return told.model_copy(update=measured(recording, told, whole))

    def __enter__(self) -> AudioChecker:
        return self

    def __exit__(self, *_: object) -> None:
        self._recordings.__exit__()


def as_entry(where: str, told: Mapping[str, Any], compared: Callable[[Utterance], Utterance]) -> Entry:
    """The utterance of the fields told of it once `compared` with its audio, or why there is none."""
    name = told.get("id") or where
    try:
        utterance = Utterance.model_validate(told)
        utterance.model_dump_json()  # what cannot be written (a name that is not UTF-8) is found here
        return compared(utterance)
    except ValidationError as error:
        return Skip(str(name), "bad entry", f"{where}: {sentence_of(error)}; correct it")
    except PydanticSerializationError:
        return Skip(str(name), "bad entry", f"{where}: holds text that is not UTF-8; rename or convert it")
    except SampleFault as fault:
        return Skip(str(name), fault.reason, f"{where}: {fault.detail}")


def measured(recording: Recording, told: Utterance, whole: bool) -> dict[str, Any]:
    """Sample rate and duration of an utterance, from the header of its audio.

    Raises:
        SampleFault: the segment ends beyond the audio, or its duration is not what is stated of the whole.
    """
    length = recording.num_samples / recording.sample_rate
    if whole and told.duration is not None:
        if abs(told.duration - length) > END_TOLERANCE_SECONDS:
            raise SampleFault(
                "another length",
                f"{recording.name}: lasts {length:.3f} s, the list says {told.duration:.3f} s; list it again",
            )
        return {"sample_rate": recording.sample_rate, "duration": length}
    start, end = recording.sample_range(told.offset, told.duration)
    duration = told.duration
    if duration is None or told.offset + duration > length:
        duration = (end - start) / recording.sample_rate
    return {"sample_rate": recording.sample_rate, "duration": duration}


def sentence_of(error: ValidationError) -> str:
    """The first thing that is wrong with the fields of an utterance."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the entry"
    return f"{place}: {first['msg']}; found {first.get('input')!r}"


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Where each line is that is not blank, and its object or what is wrong with it. May be compressed by gzip.

    Raises:
        UserError: the file cannot be opened, or ends before its compressed data do.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path.name}:{number}", _object(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: is not whole ({error}); copy it again.") from error


def _object(line: bytes) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object ({error})"
    return value if isinstance(value, dict) else f"not a JSON object but {str(value)[:40]}"
