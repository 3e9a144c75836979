"""Text read aloud: a manifest of what is to be spoken by whom, and, where audio is kept, parts that workers speak.

    texts/                   what is to be spoken: manifest.jsonl, and skips.jsonl of empty texts (sealed)
    audio/part-00000/        000000.wav …, manifest.jsonl, skips.jsonl, counts.json (sealed)
    manifest.jsonl           everything that was spoken, and where it lies
    skips.jsonl              everything that was not, and why

A part is the unit of work: it stands sealed or not at all, so a second run makes what is missing. Where audio is not
kept, there are no parts, and the manifest is that of the texts: they are spoken whenever somebody listens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, Literal

import numpy as np

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import (
    SAMPLE_RATE,
    ManifestSlice,
    Synthesis,
    Utterance,
    cut_manifest,
    write_manifest,
)
from speechscale.records.seal import atomic_write, is_up_to_date, seal_identity, sealed_folder, write_json
from speechscale.speech.texts import Source, Text
from speechscale.speech.waveforms import load_waveforms

TEXTS_SCHEMA, PART_SCHEMA = "speechscale.texts/1", "speechscale.spoken/1"
TEXTS, MANIFEST, SKIPS = "texts", "manifest.jsonl", "skips.jsonl"
_COUNTS = "counts.json"
Format = Literal["wav", "flac"]


@dataclass(frozen=True)
class Reading:
    """How texts become utterances."""

    dataset: str
    split: str  # of texts whose source names none
    engine: str
    voices: Sequence[str]
    words_per_minute: int
    seed: int

    def __post_init__(self) -> None:
        if not self.split:
            raise UserError("--split: is empty; name the split that the texts belong to, such as train.")

    def utterance(self, text: Text, number: int) -> Utterance:
        """The `number`-th text of the source.

        The voice is drawn by seed and id alone, or, where the source names the speaker, by seed and speaker: one
        voice, then, for all that a speaker says.
        """
        name = text.id or f"{self.dataset}/{number:06d}"
        voice = Random(f"{self.seed}/{text.speaker or name}").choice(list(self.voices))
        return Utterance(
            id=name,
            dataset=self.dataset,
            split=text.split or self.split,
            transcript=text.text,
            speaker=text.speaker or voice,
            synthesis=self.way(voice),
        )

    def way(self, voice: str) -> Synthesis:
        return Synthesis(
            engine=self.engine, voice=voice, words_per_minute=self.words_per_minute, seed=self.seed
        )


def write_texts(source: Source, reading: Reading, folder: Path) -> None:
    """Write the manifest of what is to be spoken, as a sealed folder, unless it stands there already.

    Raises:
        UserError: the folder was made from something else, ids are repeated, or there is nothing to speak.
    """
    spec = {"source": source.identity(), **vars(reading), "voices": list(reading.voices)}
    if is_up_to_date(folder, schema=TEXTS_SCHEMA, stage="speech", spec=spec, parents={}):
        return
    with sealed_folder(folder, schema=TEXTS_SCHEMA, stage="speech", spec=spec, parents={}) as aside:
        with atomic_write(aside / SKIPS) as skips:
            utterances = _speakable(source.texts(), reading, skips)
            count = write_manifest(utterances, aside / MANIFEST, source=source.name)
        if not count:
            empty = count_lines(aside / SKIPS)
            raise UserError(f"{source.name}: there is no text to speak ({empty} texts, all of them empty).")


def _speakable(texts: Iterable[Text], reading: Reading, skips: BinaryIO) -> Iterator[Utterance]:
    """The utterances of texts that hold something; the others go to `skips`."""
    for number, text in enumerate(texts):
        utterance = reading.utterance(text, number)
        if not text.text:
            _skip(skips, utterance.id, SampleFault("empty text", f"{text.where}: nothing to speak"))
        elif any("\ud800" <= character <= "\udfff" for character in text.text):
            _skip(
                skips, utterance.id, SampleFault("not unicode", f"{text.where}: holds halves of characters")
            )
        else:
            yield utterance


def _skip(skips: BinaryIO, name: str, fault: SampleFault) -> None:
    row = {"id": name, "reason": fault.reason, "detail": fault.detail}
    skips.write(json.dumps(row).encode() + b"\n")


@dataclass(frozen=True)
class PartTask:
    """Everything a worker needs to speak one part; small."""

    folder: Path
    stretch: ManifestSlice
    format: Format
    texts: str  # identity of the folder of texts


def plan_parts(out: Path, seconds: float, format: Format) -> list[PartTask]:
    """Cut the texts of a folder into parts of about `seconds` of speech, as far as that can be foreseen."""
    parent = seal_identity(out / TEXTS)
    stretches = cut_manifest(out / TEXTS / MANIFEST, seconds)
    return [
        PartTask(out / "audio" / f"part-{number:05d}", stretch, format, parent)
        for number, stretch in enumerate(stretches)
    ]


def is_spoken(task: PartTask) -> bool:
    """Whether the part stands already.

    Raises:
        UserError: it stands, but was made otherwise.
    """
    return is_up_to_date(
        task.folder, schema=PART_SCHEMA, stage="speech", spec=_spec(task), parents={"texts": task.texts}
    )


def speak_part(task: PartTask) -> None:
    """Speak one part and seal it."""
    counts = {"spoken": 0, "skipped": 0, "samples": 0}
    with (
        sealed_folder(
            task.folder, schema=PART_SCHEMA, stage="speech", spec=_spec(task), parents={"texts": task.texts}
        ) as aside,
        (aside / MANIFEST).open("wb") as listed,
        (aside / SKIPS).open("wb") as skips,
    ):
        utterances = list(task.stretch.utterances())
        for number, (utterance, waveform) in enumerate(
            zip(utterances, load_waveforms(utterances, aside), strict=True)
        ):
            if isinstance(waveform, SampleFault):
                _skip(skips, utterance.id, waveform)
                counts["skipped"] += 1
                continue
            file = f"{number:06d}.{task.format}"
            (aside / file).write_bytes(audio_bytes(waveform, task.format))
            kept = _kept(utterance, f"audio/{task.folder.name}/{file}", len(waveform))
            listed.write(kept.model_dump_json(exclude_defaults=True).encode() + b"\n")
            counts["spoken"] += 1
            counts["samples"] += len(waveform)
        write_json(aside / _COUNTS, counts)


def _spec(task: PartTask) -> dict[str, Any]:
    return {"format": task.format, "start": task.stretch.start, "end": task.stretch.end}


def _kept(utterance: Utterance, file: str, samples: int) -> Utterance:
    told = {"audio": file, "sample_rate": SAMPLE_RATE, "duration": samples / SAMPLE_RATE}
    return utterance.model_copy(update=told)


def audio_bytes(samples: np.ndarray, format: Format) -> bytes:
    """Mono samples at 16 kHz as a 16-bit file."""
    import soundfile

    buffer = BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, subtype="PCM_16", format=format.upper())
    return buffer.getvalue()


@dataclass(frozen=True)
class Spoken:
    """What came of the texts."""

    spoken: int
    skipped: int
    seconds: float | None  # of audio; None where it is still to be spoken

    def __str__(self) -> str:
        skips = f"{self.skipped} skipped ({SKIPS} says why)"
        if self.seconds is None:
            return f"{self.spoken} utterances, to be spoken whenever they are read, {skips}."
        return f"{self.spoken} utterances spoken, {skips}, {self.seconds / 3600:.2f} hours of audio."


def join_parts(out: Path, tasks: Sequence[PartTask]) -> Spoken:
    """Write manifest and skips of all parts."""
    folders = [task.folder for task in tasks]
    _join([folder / MANIFEST for folder in folders], out / MANIFEST)
    _join([folder / SKIPS for folder in (out / TEXTS, *folders)], out / SKIPS)
    counts = [json.loads((folder / _COUNTS).read_text()) for folder in folders]
    return Spoken(
        spoken=sum(count["spoken"] for count in counts),
        skipped=count_lines(out / SKIPS),
        seconds=sum(count["samples"] for count in counts) / SAMPLE_RATE,
    )


def leave_unspoken(out: Path) -> Spoken:
    """Write manifest and skips of texts that are spoken only when they are listened to."""
    for name in (MANIFEST, SKIPS):
        _join([out / TEXTS / name], out / name)
    return Spoken(count_lines(out / MANIFEST), count_lines(out / SKIPS), seconds=None)


def _join(files: Sequence[Path], whole: Path) -> None:
    with atomic_write(whole) as stream:
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, stream)


def count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
