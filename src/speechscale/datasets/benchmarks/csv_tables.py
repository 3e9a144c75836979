"""Written pairs, and the tables they are read from: every cell text, every fault told by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechscale.errors import UserError, nearest


@dataclass(frozen=True)
class TextPair:
    """Two texts, one of them right; after the same prompt, where there is one."""

    group_id: str  # what is asked
    pair_id: str  # unique within the benchmark
    phenomenon: str  # macro averages go over these
    correct: str
    wrong: str
    prompt: str = ""
    frequency: float | None = None  # of the word; 0 outside the vocabulary


@dataclass(frozen=True)
class TextBenchmark:
    """The pairs of a benchmark, in the order of their files, and what is to be known of them."""

    pairs: tuple[TextPair, ...]
    notes: tuple[str, ...] = ()


def header(path: Path) -> list[str]:
    """The column names of a table.

    Raises:
        UserError: it cannot be opened, or is not UTF-8 text.
    """
    return next(iter(_lines(path)), (1, []))[1]


def read_table(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The wanted cells of every row, stripped, each row with the line it ends on.

    Raises:
        UserError: a column is missing, or a row has not as many cells as the header.
    """
    lines = _lines(path)
    _, columns = next(lines, (1, []))
    for name in wanted:
        if name not in columns:
            raise UserError(
                f"{path}: column {name!r} is missing{nearest(name, columns)}; found {', '.join(columns)}."
            )
    for line, cells in lines:
        if not cells:
            continue
        if len(cells) != len(columns):
            raise UserError(
                f"{path}: line {line} has {len(cells)} cells, the header {len(columns)}; is a comma unquoted?"
            )
        row = dict(zip(columns, cells, strict=True))
        yield line, {name: row[name].strip() for name in wanted}


def one_of_two(path: Path, pair: str, found: dict[str, str], member: str, text: str) -> None:
    """Put a text in its place in `found`.

    Raises:
        UserError: the place is taken, or the text is empty.
    """
    if member in found:
        raise UserError(f"{path}: {pair} has two {member} texts; a pair has one of each.")
    if not text:
        raise UserError(f"{path}: the {member} text of {pair} is empty.")
    found[member] = text


def differs(what: str, found: int, official: int) -> tuple[str, ...]:
    """A note where a count is not the official one."""
    return () if found == official else (f"{found:,} {what}; the official set has {official:,}",)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not CSV ({error}).") from error
