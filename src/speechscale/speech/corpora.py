"""Corpora on disk to utterances. Durations are read from the files, never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import soundfile

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".opus"})


def folder_of_audio(folder: Path, dataset: str, split: str) -> Iterator[Utterance | SampleFault]:
    """One utterance a file, in path order; its id is the corpus and the path, its speaker unknown.

    A file that cannot be opened as audio comes out as a fault, named in the detail.

    Raises:
        UserError: no such folder, or no audio in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a folder of audio files is wanted.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise UserError(f"{folder}: no audio here; looked for {', '.join(sorted(AUDIO_SUFFIXES))}.")
    for file in files:
        yield _utterance(file, folder, dataset, split)


def _utterance(file: Path, folder: Path, dataset: str, split: str) -> Utterance | SampleFault:
    name = file.relative_to(folder)
    if not file.is_file():
        return SampleFault("no file", f"{name}: is a folder or a broken link")
    try:
        info = soundfile.info(file)
    except (OSError, soundfile.LibsndfileError) as error:
        return SampleFault("corrupt", f"{name}: cannot be read as audio ({error})")
    if info.frames == 0:
        return SampleFault("empty", f"{name}: no samples")
    return Utterance(
        id=f"{dataset}/{name.as_posix()}",
        dataset=dataset,
        split=split,
        audio=name.as_posix(),
        sample_rate=info.samplerate,
        duration=info.frames / info.samplerate,
    )
