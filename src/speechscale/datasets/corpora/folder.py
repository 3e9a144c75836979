"""A folder of audio files, one utterance per file in path order, without speakers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.splits import split_from_name
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.errors import UserError
from speechscale.records.shards import Skip

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus")


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read every audio file below the folder; folders `train`, `dev` and `test` at the top are splits.

    The id of an utterance is the name of the corpus and the path of the file.

    Raises:
        UserError: not a folder, or a folder without audio.
    """
    is_empty = True
    with AudioChecker(source) as checker:
        for file in files_below(source.path, AUDIO_SUFFIXES):
            is_empty = False
            if isinstance(file, Skip):
                yield file
                continue
            name = file.relative_to(source.path)
            top = name.parts[0] if len(name.parts) > 1 else ""
            split = split_from_name(top) if top.isalpha() else None
            fields = {
                "id": f"{source.dataset}/{name.as_posix()}",
                "dataset": source.dataset,
                "split": split or TRAIN,
                "audio": str(file.absolute()),
            }
            yield checker.check(name.as_posix(), fields)
    if is_empty:
        raise UserError(f"{source.path}: no audio here; looked for {', '.join(AUDIO_SUFFIXES)}.")


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path | Skip]:
    """Files with one of the suffixes, depth first in path order; hidden ones are ignored.

    Links to folders within `folder` are followed. A link that leads out of it or back to a folder above is a skip.

    Raises:
        UserError: not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a folder of audio files is wanted.")
    yield from _walk(folder, folder, suffixes, (folder.resolve(),))


def _walk(
    top: Path, folder: Path, suffixes: tuple[str, ...], parents: tuple[Path, ...]
) -> Iterator[Path | Skip]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, has_suffix = Path(entry.path), entry.name.lower().endswith(suffixes)
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            if has_suffix:
                yield path
            continue
        target, name = path.resolve(), path.relative_to(top).as_posix()
        if target in parents:
            yield Skip(name, "link loop", f"{name}: a link to a folder that contains it; remove it")
        elif not target.is_relative_to(parents[0]):
            yield Skip(name, "outside", f"{name}: a link out of {top}; list the folder it leads to by itself")
        else:
            if has_suffix:
                yield Skip(name, "missing", f"{name}: is a folder, not a file; its contents are listed")
            yield from _walk(top, path, suffixes, (*parents, target))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
