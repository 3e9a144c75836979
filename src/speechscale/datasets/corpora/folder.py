"""A folder of audio files: one utterance a file, in path order, its speaker unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from speechscale.datasets.corpora.entries import TRAIN, AudioChecker, Corpus, Entry
from speechscale.datasets.corpora.splits import split_of
from speechscale.errors import UserError
from speechscale.records.shards import Skip

AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".opus")


def read(corpus: Corpus) -> Iterator[Entry]:
    """Its id is the corpus and the path. Folders `train`, `dev`, `test` at the top are splits.

    Raises:
        UserError: not a folder, or no audio in it.
    """
    found = False
    with AudioChecker(corpus) as looker:
        for file in files_below(corpus.path, AUDIO):
            found = True
            if isinstance(file, Skip):
                yield file
                continue
            name = file.relative_to(corpus.path)
            top = name.parts[0] if len(name.parts) > 1 else ""
            split = split_of(top) if top.isalpha() else None
            yield looker.entry(
                name.as_posix(),
                {
                    "id": f"{corpus.dataset}/{name.as_posix()}",
                    "dataset": corpus.dataset,
                    "split": split or TRAIN,
                    "audio": str(file.absolute()),
                },
            )
    if not found:
        raise UserError(f"{corpus.path}: no audio here; looked for {', '.join(AUDIO)}.")


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path | Skip]:
    """Files by suffix in path order, a folder at a time. Links to folders below are followed, but no loop.

    Raises:
        UserError: not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a folder of audio files is wanted.")
    yield from _below(folder, folder, suffixes, (folder.resolve(),))


def _below(
    top: Path, folder: Path, suffixes: tuple[str, ...], above: tuple[Path, ...]
) -> Iterator[Path | Skip]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, is_named = Path(entry.path), entry.name.lower().endswith(suffixes)
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            if is_named:
                yield path
            continue
        real, shown = path.resolve(), path.relative_to(top).as_posix()
        if real in above:
            yield Skip(shown, "link loop", f"{shown}: a link to a folder that it lies in; remove it")
        elif not real.is_relative_to(above[0]):
            yield Skip(
                shown, "outside", f"{shown}: a link out of {top}; list the folder it leads to by itself"
            )
        else:
            if is_named:
                yield Skip(shown, "missing", f"{shown}: is a folder, not a file; what is in it is listed")
            yield from _below(top, path, suffixes, (*above, real))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
