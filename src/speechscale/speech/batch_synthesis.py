"""Batch synthesis of texts: a manifest of utterances and, where audio is kept, parts for parallel workers.

    texts/                   the utterances to synthesise: manifest.jsonl, and skips.jsonl of empty texts (sealed)
    audio/part-00000/        000000.wav …, manifest.jsonl, skips.jsonl, counts.json (sealed)
    manifest.jsonl           all synthesised utterances, with their audio files
    skips.jsonl              all texts without an utterance, with the reasons

A part is the unit of work. It is complete and sealed or does not exist, so that a second run makes the missing ones.
Without audio there are no parts, and the manifest is that of the texts: `load_waveforms` synthesises on reading.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import BinaryIO

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
from speechscale.speech.audio.write import AudioFormat, to_audio_bytes
from speechscale.speech.texts import Text, TextSource, is_valid_unicode
from speechscale.speech.waveforms import load_waveforms

TEXTS_SCHEMA, PART_SCHEMA = "speechscale.texts/1", "speechscale.spoken/1"
TEXTS, MANIFEST, SKIPS = "texts", "manifest.jsonl", "skips.jsonl"
_COUNTS = "counts.json"


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """How texts become utterances. The fields are part of the seal of `texts/`."""

    dataset: str
    split: str  # of texts whose source names none
    engine: str
    voices: Sequence[str]
    words_per_minute: int
    seed: int

    def __post_init__(self) -> None:
        if not self.split:
            raise UserError("--split: is empty; name the split that the texts belong to, such as train.")

    def to_utterance(self, text: Text, number: int) -> Utterance:
        """The utterance of the `number`-th text of the source.

        The voice is drawn from seed and id alone, so that it does not depend on the order of the texts. Where the
        source names the speaker, it is drawn from seed and speaker, so that a speaker has one voice.
        """
        name = text.id or f"{self.dataset}/{number:06d}"
        voice = Random(f"{self.seed}/{text.speaker or name}").choice(list(self.voices))
        return Utterance(
            id=name,
            dataset=self.dataset,
            split=text.split or self.split,
            transcript=text.text,
            speaker=text.speaker or voice,
            synthesis=self.for_voice(voice),
        )

    def for_voice(self, voice: str) -> Synthesis:
        """The synthesis settings of one voice."""
        return Synthesis(
            engine=self.engine, voice=voice, words_per_minute=self.words_per_minute, seed=self.seed
        )


def write_text_manifest(source: TextSource, options: SynthesisOptions, folder: Path) -> None:
    """Write the manifest of the utterances to synthesise as a sealed folder, unless it is up to date.

    Raises:
        UserError: the folder was made from something else, ids are repeated, or there is no text to synthesise.
    """
    spec = {"source": source.fingerprint(), **vars(options), "voices": list(options.voices)}
    if is_up_to_date(folder, schema=TEXTS_SCHEMA, stage="speech", spec=spec, parents={}):
        return
    with sealed_folder(folder, schema=TEXTS_SCHEMA, stage="speech", spec=spec, parents={}) as staging:
        with atomic_write(staging / SKIPS) as skips:
            utterances = _valid_utterances(source.texts(), options, skips)
            count = write_manifest(utterances, staging / MANIFEST, source=source.name)
        if not count:
            empty = _count_lines(staging / SKIPS)
            raise UserError(
                f"{source.name}: there is no text to synthesise ({empty} texts, all of them empty)."
            )


def _valid_utterances(
    texts: Iterable[Text], options: SynthesisOptions, skips: BinaryIO
) -> Iterator[Utterance]:
    """The utterances of valid, non-empty texts; the others are recorded in `skips`."""
    for number, text in enumerate(texts):
        utterance = options.to_utterance(text, number)
        if not text.text:
            fault = SampleFault("empty text", f"{text.location}: nothing to synthesise")
        elif not is_valid_unicode(text.text):
            fault = SampleFault(
                "not unicode", f"{text.location}: holds lone surrogates; save it as valid Unicode"
            )
        else:
            yield utterance
            continue
        _record_skip(skips, utterance.id, fault)


def _record_skip(skips: BinaryIO, name: str, fault: SampleFault) -> None:
    row = {"id": name, "reason": fault.reason, "detail": fault.detail}
    skips.write(json.dumps(row).encode() + b"\n")


@dataclass(frozen=True)
class PartTask:
    """One part to synthesise. Small, because it is sent to workers."""

    folder: Path
    utterances: ManifestSlice
    audio_format: AudioFormat
    texts_identity: str  # of the sealed folder of texts

    @property
    def spec(self) -> dict[str, str | int]:
        """What the seal of the part records."""
        return {"format": self.audio_format, "start": self.utterances.start, "end": self.utterances.end}


def plan_parts(out: Path, seconds: float, audio_format: AudioFormat) -> list[PartTask]:
    """Cut the manifest of texts into parts.

    Args:
        out: the folder that holds `texts/`.
        seconds: expected speech per part; the length of speech is estimated from its text.
        audio_format: of the audio files.
    """
    texts_identity = seal_identity(out / TEXTS)
    slices = cut_manifest(out / TEXTS / MANIFEST, seconds)
    return [
        PartTask(out / "audio" / f"part-{number:05d}", utterances, audio_format, texts_identity)
        for number, utterances in enumerate(slices)
    ]


def is_part_complete(task: PartTask) -> bool:
    """Whether the part exists.

    Raises:
        UserError: it exists, but was made with other settings.
    """
    return is_up_to_date(
        task.folder,
        schema=PART_SCHEMA,
        stage="speech",
        spec=task.spec,
        parents={"texts": task.texts_identity},
    )


def synthesize_part(task: PartTask) -> None:
    """Synthesise one part and seal it. Utterances that cannot be synthesised are recorded in its skips."""
    counts = {"spoken": 0, "skipped": 0, "samples": 0}
    parents = {"texts": task.texts_identity}
    with (
        sealed_folder(
            task.folder, schema=PART_SCHEMA, stage="speech", spec=task.spec, parents=parents
        ) as staging,
        (staging / MANIFEST).open("wb") as manifest,
        (staging / SKIPS).open("wb") as skips,
    ):
        utterances = list(task.utterances.utterances())
        for number, (utterance, waveform) in enumerate(
            zip(utterances, load_waveforms(utterances, staging), strict=True)
        ):
            if isinstance(waveform, SampleFault):
                _record_skip(skips, utterance.id, waveform)
                counts["skipped"] += 1
                continue
            file = f"{number:06d}.{task.audio_format}"
            (staging / file).write_bytes(to_audio_bytes(waveform, task.audio_format))
            recorded = _with_audio(utterance, f"audio/{task.folder.name}/{file}", len(waveform))
            manifest.write(recorded.model_dump_json(exclude_defaults=True).encode() + b"\n")
            counts["spoken"] += 1
            counts["samples"] += len(waveform)
        write_json(staging / _COUNTS, counts)


def _with_audio(utterance: Utterance, file: str, samples: int) -> Utterance:
    audio = {"audio": file, "sample_rate": SAMPLE_RATE, "duration": samples / SAMPLE_RATE}
    return utterance.model_copy(update=audio)


@dataclass(frozen=True)
class SynthesisSummary:
    """The counts of a finished synthesis."""

    utterances: int
    skipped: int
    seconds: float | None  # of audio; None where no audio is kept

    def __str__(self) -> str:
        skips = f"{self.skipped} skipped ({SKIPS} says why)"
        if self.seconds is None:
            return f"{self.utterances} utterances, to be synthesised whenever they are read, {skips}."
        return f"{self.utterances} utterances synthesised, {skips}, {self.seconds / 3600:.2f} hours of audio."


def merge_parts(out: Path, tasks: Sequence[PartTask]) -> SynthesisSummary:
    """Concatenate manifests and skips of all parts, which must be complete."""
    folders = [task.folder for task in tasks]
    _concatenate([folder / MANIFEST for folder in folders], out / MANIFEST)
    _concatenate([folder / SKIPS for folder in (out / TEXTS, *folders)], out / SKIPS)
    counts = [json.loads((folder / _COUNTS).read_text()) for folder in folders]
    return SynthesisSummary(
        utterances=sum(count["spoken"] for count in counts),
        skipped=_count_lines(out / SKIPS),
        seconds=sum(count["samples"] for count in counts) / SAMPLE_RATE,
    )


def write_manifest_without_audio(out: Path) -> SynthesisSummary:
    """Write manifest and skips of utterances that are synthesised whenever they are read."""
    for name in (MANIFEST, SKIPS):
        _concatenate([out / TEXTS / name], out / name)
    return SynthesisSummary(_count_lines(out / MANIFEST), _count_lines(out / SKIPS), seconds=None)


def _concatenate(files: Sequence[Path], target: Path) -> None:
    with atomic_write(target) as stream:
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, stream)


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
