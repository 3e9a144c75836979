"""fairseq manifests: the audio root in the first line, then `path<TAB>samples` per file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.splits import split_from_name
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.errors import UserError
from speechscale.records.shards import Skip


def matches(folder: Path) -> bool:
    """Whether the folder has TSV files and the first line of each, the root, holds no tab."""
    tsv_files = _tsv_files(folder)
    return bool(tsv_files) and all(b"\t" not in _first_line(path) for path in tsv_files)


def find_root(path: Path) -> Path:
    """The audio root that the TSV files state.

    Raises:
        UserError: there is no TSV file, one has no root, or two have different roots.
    """
    roots = {_stated_root(tsv_file) for tsv_file in _tsv_files(path)}
    if len(roots) != 1:
        found = "; ".join(sorted(map(str, roots))) or "no .tsv file"
        raise UserError(f"{path}: one root is wanted; found {found}. Give the lists one by one.")
    return roots.pop()


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read one TSV file, or a folder of them (`train.tsv`, `valid.tsv`) whose names are the splits.

    Raises:
        UserError: a TSV file has no root.
    """
    with AudioChecker(source) as checker:
        for tsv_file in _tsv_files(source.path):
            split = split_from_name(tsv_file.stem) or TRAIN
            with tsv_file.open("rb") as stream:
                root = _stated_root(tsv_file)
                for number, line in enumerate(stream, start=1):
                    if number > 1 and line.strip():
                        yield _utterance(checker, root, split, f"{tsv_file.name}:{number}", line)


def _utterance(checker: AudioChecker, root: Path, split: str, where: str, line: bytes) -> UtteranceOrSkip:
    try:
        name, tab, samples = line.decode().rstrip("\r\n").rpartition("\t")  # paths may hold spaces and tabs
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
    dataset = checker.source.dataset
    fields = {"id": f"{dataset}/{name}", "dataset": dataset, "split": split, "audio": str(root / name)}
    return checker.check(where, fields, num_samples=int(samples))


def _tsv_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("*.tsv"))


def _stated_root(tsv_file: Path) -> Path:
    line = _first_line(tsv_file)
    try:
        root = line.decode().strip()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{tsv_file}: its first line is not UTF-8; wanted the folder of the audio."
        ) from error
    if not root or "\t" in root or "\0" in root:
        raise UserError(
            f"{tsv_file}: its first line is {root[:80]!r}; wanted the folder of the audio, as fairseq writes it."
        )
    return (tsv_file.absolute().parent / root).resolve()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.readline(1 << 16)
