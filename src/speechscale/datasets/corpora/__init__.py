"""Reading of speech corpora into utterances: one module per layout, dispatched by `read_corpus`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.corpora import fairseq, folder, jsonlines, lhotse, librispeech, parquet
from speechscale.datasets.corpora.source import CorpusSource, UtteranceOrSkip
from speechscale.datasets.reading import require_layout
from speechscale.errors import UserError


def _containing_folder(path: Path) -> Path:
    return path if path.is_dir() else path.absolute().parent


@dataclass(frozen=True)
class CorpusLayout:
    """How one kind of corpus is read."""

    read: Callable[[CorpusSource], Iterator[UtteranceOrSkip]]
    find_root: Callable[[Path], Path] = _containing_folder  # of audio paths
    has_test: bool = False  # the corpus has an official test set, though perhaps not below this path


CORPUS_LAYOUTS = {
    "folder": CorpusLayout(folder.read),
    "librispeech": CorpusLayout(librispeech.read, has_test=True),
    "fairseq": CorpusLayout(fairseq.read, fairseq.find_root),
    "jsonl": CorpusLayout(jsonlines.read),
    "lhotse": CorpusLayout(lhotse.read),
    "parquet": CorpusLayout(parquet.read),
}


def open_corpus(
    path: Path,
    layout: str | None = None,
    *,
    dataset: str | None = None,
    root: Path | None = None,
    trust_durations: bool = False,
) -> CorpusSource:
    """A corpus to read; what is not given is derived from the path.

    Args:
        path: folder of the corpus, or the file that lists its utterances.
        layout: a key of `CORPUS_LAYOUTS`.
        dataset: name of the corpus, where its utterances do not state one.
        root: folder that audio paths are relative to; no file outside it is read.
        trust_durations: take stated durations without opening the audio files.

    Raises:
        UserError: `path` does not exist, or there is no such layout.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a corpus is wanted.")
    layout = layout or detect_corpus_layout(path)
    require_layout(layout, CORPUS_LAYOUTS)
    name = path.resolve().name
    return CorpusSource(
        path=path,
        layout=layout,
        root=(root or CORPUS_LAYOUTS[layout].find_root(path)).resolve(),
        dataset=dataset or (name if path.is_dir() else name.split(".")[0]),
        trust_durations=trust_durations,
    )


def read_corpus(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Stream the utterances of a corpus in its own order, each with its duration, or why it cannot be used.

    An utterance without an official split has the split `train`.

    Raises:
        UserError: the list of utterances itself cannot be read, so that the number of lost ones is unknown.
    """
    return CORPUS_LAYOUTS[source.layout].read(source)


def detect_corpus_layout(path: Path) -> str:
    """The layout of a corpus by its file names; any folder without a known structure is a `folder`.

    Raises:
        UserError: a file with an unknown ending.
    """
    if path.is_dir():
        modules = {"librispeech": librispeech, "fairseq": fairseq, "parquet": parquet}
        return next((name for name, module in modules.items() if module.matches(path)), "folder")
    if path.suffix == ".tsv":
        return "fairseq"
    if path.suffix == ".parquet":
        return "parquet"
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return "lhotse" if lhotse.matches(path) else "jsonl"
    raise UserError(
        f"{path}: not a corpus by its name; wanted a folder, .tsv, .jsonl, .jsonl.gz or .parquet, or say --layout."
    )
