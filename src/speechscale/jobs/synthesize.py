"""Synthesis of texts from any source by parallel workers, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from speechscale.compute import available_cores
from speechscale.errors import UserError
from speechscale.records.seal import exclusive_lock, remove_leftovers, write_error
from speechscale.speech.audio.write import AudioFormat
from speechscale.speech.batch_synthesis import (
    SKIPS,
    TEXTS,
    SynthesisOptions,
    SynthesisSummary,
    is_part_complete,
    merge_parts,
    plan_parts,
    synthesize_part,
    write_manifest_without_audio,
    write_text_manifest,
)
from speechscale.speech.synthesis.engines import check_voices, default_voice
from speechscale.speech.texts import StoryTexts, TextFiles, TextSource
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks
from speechscale.workers.progress import spinner


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The texts to synthesise: those of `path`, or stories of the story world where it is None."""

    path: Path | None = None  # a file or a folder
    field: str = "text"  # of JSON Lines and Parquet
    world: str = "small"  # size of the story world
    stories: int = 100
    limit: int | None = None  # number of texts; None: all


@dataclass(frozen=True, kw_only=True)
class VoiceOptions:
    """The voices that speak the texts, and the names of data set and split."""

    dataset: str | None = None  # None: the name of the source
    split: str = "train"  # of texts whose source names none
    engine: str = "espeak-ng"
    voices: Sequence[str] = ()  # empty: the default voice of the engine
    words_per_minute: int = 175


@dataclass(frozen=True, kw_only=True)
class AudioOptions:
    """The format of the audio files and the size of the parts."""

    audio_format: AudioFormat
    part_seconds: float  # of speech per part, the unit of work


def synthesize_texts(
    out: Path,
    texts: TextOptions,
    voices: VoiceOptions,
    *,
    seed: int = 0,
    audio: AudioOptions | None = None,
    workers: int | None = None,
) -> SynthesisSummary:
    """Synthesise texts into a folder. Complete parts of an earlier, interrupted call are kept.

    Args:
        out: the folder to write.
        texts: the source of the texts.
        voices: engine, voices and names.
        seed: of the stories and of the choice of voices.
        audio: options of the audio files; None: write the manifest only, for synthesis whenever it is read.
        workers: number of processes; None: one per core.

    Raises:
        UserError: the folder holds something else, was made with other settings or is in use; a voice is unknown; no
            text could be synthesised.
    """
    source = _text_source(texts, seed)
    options = SynthesisOptions(
        dataset=voices.dataset or source.name,
        split=voices.split,
        engine=voices.engine,
        voices=tuple(voices.voices or [default_voice(voices.engine)]),
        words_per_minute=voices.words_per_minute,
        seed=seed,
    )
    check_voices([options.for_voice(voice) for voice in options.voices], "--voice")
    with _exclusive_folder(out):
        with spinner("texts"):
            write_text_manifest(source, options, out / TEXTS)
        if audio is None:
            return write_manifest_without_audio(out)
        return _synthesize_parts(out, audio, workers or available_cores())


def _text_source(texts: TextOptions, seed: int) -> TextSource:
    if texts.path is not None:
        return TextFiles(texts.path, texts.field, texts.limit)
    return StoryTexts(texts.world, min(texts.stories, texts.limit or texts.stories), seed)


@contextmanager
def _exclusive_folder(out: Path) -> Iterator[None]:
    """A new or earlier output folder, locked for this process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in out.glob("[!.]*")]
    except OSError as error:
        raise write_error(out, error) from error
    if names and TEXTS not in names:
        raise UserError(f"{out}: holds other files ({names[0]}); choose an empty or a new folder with --out.")
    with exclusive_lock(out):
        remove_leftovers(out)
        yield


def _synthesize_parts(out: Path, audio: AudioOptions, workers: int) -> SynthesisSummary:
    tasks = plan_parts(out, audio.part_seconds, audio.audio_format)
    missing = [task for task in tasks if not is_part_complete(task)]
    for _ in run_tasks(
        synthesize_part,
        missing,
        label="synthesis",
        backend=LocalBackend(workers),
        weight=lambda task: task.utterances.seconds,
    ):
        pass
    summary = merge_parts(out, tasks)
    if not summary.utterances:
        raise UserError(
            f"{out}: none of {summary.skipped} texts could be synthesised; {SKIPS} there says why."
        )
    return summary
