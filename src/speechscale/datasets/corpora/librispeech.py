"""LibriSpeech as OpenSLR lays it out: SUBSET/SPEAKER/CHAPTER/*.flac with a `.trans.txt` a chapter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from speechscale.datasets.corpora.entries import TRAIN, AudioChecker, Corpus, Entry
from speechscale.datasets.corpora.folder import AUDIO, files_below
from speechscale.datasets.corpora.splits import split_of
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


def looks_like_one(folder: Path) -> bool:
    subsets = [folder] if folder.resolve().name in SUBSETS else [folder / name for name in sorted(SUBSETS)]
    return any(next(subset.glob("*/*/*.trans.txt"), None) for subset in subsets if subset.is_dir())


def read(corpus: Corpus) -> Iterator[Entry]:
    """The whole corpus or one subset. `split` is train, dev or test; the subset's own name is kept in `extra`.

    Raises:
        UserError: no audio there.
    """
    found = False
    with AudioChecker(corpus) as looker:
        for file in files_below(corpus.path, AUDIO):
            found = True
            yield file if isinstance(file, Skip) else _entry(corpus, looker, file)
    if not found:
        raise UserError(f"{corpus.path}: no audio here; wanted SUBSET/SPEAKER/CHAPTER/*.flac.")


def _entry(corpus: Corpus, looker: AudioChecker, file: Path) -> Entry:
    name = file.relative_to(corpus.path)
    parts = file.absolute().parts
    if len(parts) < 4 or not (parts[-3].isdigit() and parts[-2].isdigit()):
        return Skip(name.as_posix(), "bad entry", f"{name}: not in a folder SPEAKER/CHAPTER; remove it")
    subset = parts[-4]
    return looker.entry(
        name.as_posix(),
        {
            "id": f"{corpus.dataset}/{file.stem}",
            "dataset": corpus.dataset,
            "split": split_of(subset) or TRAIN,
            "audio": str(file.absolute()),
            "transcript": _transcripts(file.parent).get(file.stem),
            "speaker": parts[-3],
            "extra": {"subset": subset, "chapter": parts[-2]},
        },
    )


@lru_cache(maxsize=1)  # files come chapter by chapter
def _transcripts(chapter: Path) -> dict[str, str]:
    """What is said in a chapter, by utterance; nothing where its list is missing."""
    listed = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    if not listed.is_file():
        return {}
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: text for name, _, text in (line.partition(" ") for line in lines)}
