"""LibriSpeech as OpenSLR releases it: SUBSET/SPEAKER/CHAPTER/*.flac with a `.trans.txt` per chapter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from speechscale.datasets.corpora.folder import AUDIO_SUFFIXES, files_below
from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.splits import split_from_name
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.errors import UserError
from speechscale.records.shards import Skip

SUBSETS = frozenset(
    {
        "train-clean-100",
        "train-clean-360",
        "train-other-500",
        "dev-clean",
        "dev-other",
        "test-clean",
        "test-other",
    }
)


def matches(folder: Path) -> bool:
    """Whether the folder is a subset of LibriSpeech or holds one."""
    subsets = [folder] if folder.resolve().name in SUBSETS else [folder / name for name in sorted(SUBSETS)]
    return any(next(subset.glob("*/*/*.trans.txt"), None) for subset in subsets if subset.is_dir())


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read the whole corpus or one subset; the split is train, dev or test, and `extra` keeps the subset.

    Raises:
        UserError: there is no audio.
    """
    is_empty = True
    with AudioChecker(source) as checker:
        for file in files_below(source.path, AUDIO_SUFFIXES):
            is_empty = False
            yield file if isinstance(file, Skip) else _utterance(checker, file)
    if is_empty:
        raise UserError(f"{source.path}: no audio here; wanted SUBSET/SPEAKER/CHAPTER/*.flac.")


def _utterance(checker: AudioChecker, file: Path) -> UtteranceOrSkip:
    source = checker.source
    name = file.relative_to(source.path)
    parts = file.absolute().parts
    if len(parts) < 4 or not (parts[-3].isdigit() and parts[-2].isdigit()):
        return Skip(name.as_posix(), "bad entry", f"{name}: not in a folder SPEAKER/CHAPTER; remove it")
    subset, speaker, chapter = parts[-4:-1]
    fields = {
        "id": f"{source.dataset}/{file.stem}",
        "dataset": source.dataset,
        "split": split_from_name(subset) or TRAIN,
        "audio": str(file.absolute()),
        "transcript": _transcripts(file.parent).get(file.stem),
        "speaker": speaker,
        "extra": {"subset": subset, "chapter": chapter},
    }
    return checker.check(name.as_posix(), fields)


@lru_cache(maxsize=1)  # files come chapter by chapter
def _transcripts(chapter: Path) -> dict[str, str]:
    """Transcripts of a chapter by utterance; empty where the file is missing."""
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: text for name, _, text in (line.partition(" ") for line in lines)}
