"""Reading of released zero-shot benchmarks into labelled utterances: one module per layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.benchmarks import jsonlines, parquet, salmon, slamkit, storycloze, zerospeech
from speechscale.datasets.benchmarks.members import BenchmarkSource, Member, MemberFault
from speechscale.datasets.reading import require_layout
from speechscale.errors import UserError


@dataclass(frozen=True)
class BenchmarkLayout:
    """How one kind of benchmark is read and recognised."""

    read: Callable[[BenchmarkSource, Callable[[str], None]], Iterator[Member | MemberFault]]
    matches: Callable[[Path], bool]


BENCHMARK_LAYOUTS = {
    "zerospeech": BenchmarkLayout(zerospeech.read, zerospeech.matches),
    "storycloze": BenchmarkLayout(storycloze.read, storycloze.matches),
    "parquet": BenchmarkLayout(parquet.read, parquet.matches),
    "salmon": BenchmarkLayout(salmon.read, salmon.matches),
    "slamkit": BenchmarkLayout(slamkit.read, slamkit.matches),
    "jsonl": BenchmarkLayout(jsonlines.read, jsonlines.matches),
    "slm": BenchmarkLayout(jsonlines.read_slm_scaling, jsonlines.matches_slm_scaling),
}


def open_benchmark(
    path: Path,
    layout: str | None = None,
    *,
    task: str | None = None,
    root: Path | None = None,
    subfolders: str | None = None,
) -> BenchmarkSource:
    """A benchmark to read; layout and root are derived from the path where they are not given.

    Args:
        path: folder of the benchmark, or the file that lists its recordings.
        layout: a key of `BENCHMARK_LAYOUTS`.
        task: name of the benchmark, where its layout does not state it.
        root: folder that audio paths are relative to; no file outside it is read.
        subfolders: what the folders of a slamkit tree are: "voice", "phenomenon" or "condition".

    Raises:
        UserError: `path` does not exist, there is no such layout, or none or several layouts match.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a benchmark is wanted.")
    if layout is not None:
        require_layout(layout, BENCHMARK_LAYOUTS)
    path = path.absolute()
    root = root or (path if path.is_dir() else path.parent)
    return BenchmarkSource(path, layout or detect_benchmark_layout(path), root.resolve(), task, subfolders)


def read_benchmark(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Stream every recording with its label, or why it cannot be used; `note` receives remarks for the user.

    Raises:
        UserError: the information which recordings form a pair cannot be read.
    """
    return BENCHMARK_LAYOUTS[source.layout].read(source, note)


def detect_benchmark_layout(path: Path) -> str:
    """The one layout that matches a path.

    Raises:
        UserError: none or several match.
    """
    names = [name for name, layout in BENCHMARK_LAYOUTS.items() if layout.matches(path)]
    if len(names) != 1:
        found = f"could be {' or '.join(names)}" if names else "looks like no benchmark"
        raise UserError(f"{path}: {found}; say --layout, one of {', '.join(BENCHMARK_LAYOUTS)}.")
    return names[0]
