"""Corpora on disk to utterances: one module a layout, and one door, `read_corpus`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.corpora import fairseq, folder, jsonlines, lhotse, librispeech, parquet
from speechscale.datasets.corpora.entries import Corpus, Entry
from speechscale.errors import UserError, nearest


@dataclass(frozen=True)
class Layout:
    """How a corpus lies on disk."""

    read: Callable[[Corpus], Iterator[Entry]]
    root_of: Callable[[Path], Path] = lambda path: path if path.is_dir() else path.absolute().parent
    has_test: bool = False  # the corpus has an official test set, though perhaps not below this path


LAYOUTS = {
    "folder": Layout(folder.read),
    "librispeech": Layout(librispeech.read, has_test=True),
    "fairseq": Layout(fairseq.read, fairseq.root_of),
    "jsonl": Layout(jsonlines.read),
    "lhotse": Layout(lhotse.read),
    "parquet": Layout(parquet.read),
}


def open_corpus(
    path: Path,
    layout: str | None = None,
    *,
    dataset: str | None = None,
    root: Path | None = None,
    trust_durations: bool = False,
) -> Corpus:
    """A corpus to read. Layout, name and root are taken from the path where they are not given.

    Raises:
        UserError: nothing there, or no layout of this name.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a corpus is wanted.")
    layout = layout or layout_of(path)
    if layout not in LAYOUTS:
        raise UserError(
            f"--layout {layout}: no such layout{nearest(layout, set(LAYOUTS))}; known: {', '.join(LAYOUTS)}."
        )
    name = path.resolve().name
    return Corpus(
        path=path,
        layout=layout,
        root=(root or LAYOUTS[layout].root_of(path)).resolve(),
        dataset=dataset or (name if path.is_dir() else name.split(".")[0]),
        trust_durations=trust_durations,
    )


def read_corpus(corpus: Corpus) -> Iterator[Entry]:
    """Every utterance with its duration, or why there is none, in the order of the corpus; streamed.

    An utterance without an official split says `train`.

    Raises:
        UserError: what lists the utterances cannot be read, so that nobody knows what is missing.
    """
    return LAYOUTS[corpus.layout].read(corpus)


def layout_of(path: Path) -> str:
    """The layout that a path looks like.

    Raises:
        UserError: it looks like none.
    """
    if path.is_dir():
        looks = {"librispeech": librispeech, "fairseq": fairseq, "parquet": parquet}
        return next((name for name, module in looks.items() if module.looks_like_one(path)), "folder")
    if path.suffix == ".tsv":
        return "fairseq"
    if path.suffix == ".parquet":
        return "parquet"
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return "lhotse" if lhotse.looks_like_one(path) else "jsonl"
    raise UserError(
        f"{path}: not a corpus by its name; wanted a folder, .tsv, .jsonl, .jsonl.gz or .parquet, or say --layout."
    )
