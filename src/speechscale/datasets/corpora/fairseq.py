"""fairseq manifests: a line with the root, then `path<TAB>samples` a file; paths may hold spaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechscale.datasets.corpora.entries import TRAIN, AudioChecker, Corpus, Entry
from speechscale.datasets.corpora.splits import split_of
from speechscale.errors import UserError
from speechscale.records.shards import Skip


def looks_like_one(folder: Path) -> bool:
    """Whether there are TSV files whose first line is a root, which holds no tab."""
    lists = _lists(folder)
    return bool(lists) and all(b"\t" not in _first_line(path) for path in lists)


def root_of(path: Path) -> Path:
    """The root that the lists state.

    Raises:
        UserError: no list, one without a root, or two that differ.
    """
    roots = {_root(listed) for listed in _lists(path)}
    if len(roots) != 1:
        found = "; ".join(sorted(map(str, roots))) or "no .tsv file"
        raise UserError(f"{path}: one root is wanted; found {found}. Give the lists one by one.")
    return roots.pop()


def read(corpus: Corpus) -> Iterator[Entry]:
    """One list, or a folder of them (`train.tsv`, `valid.tsv`), whose names say the split.

    Raises:
        UserError: a list cannot be read.
    """
    with AudioChecker(corpus) as looker:
        for listed in _lists(corpus.path):
            split = split_of(listed.stem) or TRAIN
            with listed.open("rb") as stream:
                root = _root(listed)
                for number, line in enumerate(stream, start=1):
                    if number > 1 and line.strip():
                        yield _entry(corpus, looker, root, split, f"{listed.name}:{number}", line)


def _entry(corpus: Corpus, looker: AudioChecker, root: Path, split: str, where: str, line: bytes) -> Entry:
    try:
        name, tab, samples = line.decode().rstrip("\r\n").rpartition("\t")
    except UnicodeDecodeError:
        return Skip(where, "bad entry", f"{where}: not UTF-8; convert the list")
    if not tab or not name:
        return Skip(
            where, "bad entry", f"{where}: wanted path, a tab and samples; found {line[:80]!r}; list it again"
        )
    if not (samples.isascii() and samples.isdigit() and int(samples)):
        return Skip(
            where,
            "bad entry",
            f"{where}: wanted a positive number of samples; found {samples!r}; list it again",
        )
    told = {
        "id": f"{corpus.dataset}/{name}",
        "dataset": corpus.dataset,
        "split": split,
        "audio": str(root / name),
    }
    return looker.entry(where, told, samples=int(samples))


def _lists(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.tsv"))


def _root(listed: Path) -> Path:
    line = _first_line(listed)
    try:
        root = line.decode().strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{listed}: its first line is not UTF-8; wanted the folder of the audio.") from error
    if not root or "\t" in root or "\0" in root:
        raise UserError(
            f"{listed}: its first line is {root[:80]!r}; wanted the folder of the audio, as fairseq writes it."
        )
    return (listed.absolute().parent / root).resolve()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.readline(1 << 16)
