"""Benchmarks as they are released to labelled utterances: one module a layout, and one door, `read_benchmark`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.benchmarks import jsonlines, parquet, salmon, slamkit, storycloze, zerospeech
from speechscale.datasets.benchmarks.members import Benchmark, Fault, Member
from speechscale.errors import UserError, nearest


@dataclass(frozen=True)
class Layout:
    """How a benchmark lies on disk."""

    read: Callable[[Benchmark, Callable[[str], None]], Iterator[Member | Fault]]
    looks_like_one: Callable[[Path], bool]


LAYOUTS = {
    "zerospeech": Layout(zerospeech.read, zerospeech.looks_like_one),
    "storycloze": Layout(storycloze.read, storycloze.looks_like_one),
    "parquet": Layout(parquet.read, parquet.looks_like_one),
    "salmon": Layout(salmon.read, salmon.looks_like_one),
    "slamkit": Layout(slamkit.read, slamkit.looks_like_one),
    "jsonl": Layout(jsonlines.read, jsonlines.looks_like_ours),
    "slm": Layout(jsonlines.read_slm, jsonlines.looks_like_the_studys),
}


def open_benchmark(
    path: Path,
    layout: str | None = None,
    *,
    task: str | None = None,
    root: Path | None = None,
    subfolders: str | None = None,
) -> Benchmark:
    """A benchmark to read. Layout and root are taken from the path where they are not given.

    Raises:
        UserError: nothing there, no layout of this name, or none or several that it could be.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a benchmark is wanted.")
    if layout is not None and layout not in LAYOUTS:
        raise UserError(
            f"--layout {layout}: no such layout{nearest(layout, set(LAYOUTS))}; known: {', '.join(LAYOUTS)}."
        )
    path = path.absolute()
    root = root or (path if path.is_dir() else path.parent)
    return Benchmark(path, layout or layout_of(path), root.resolve(), task, subfolders)


def read_benchmark(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Every recording with its label, or why it is none, streamed; `note` is told what a reader should know.

    Raises:
        UserError: what says which recordings belong together cannot be read.
    """
    return LAYOUTS[benchmark.layout].read(benchmark, note)


def layout_of(path: Path) -> str:
    """The one layout that a path looks like.

    Raises:
        UserError: none or several.
    """
    alike = [name for name, layout in LAYOUTS.items() if layout.looks_like_one(path)]
    if len(alike) != 1:
        told = f"could be {' or '.join(alike)}" if alike else "looks like no benchmark"
        raise UserError(f"{path}: {told}; say --layout, one of {', '.join(LAYOUTS)}.")
    return alike[0]
