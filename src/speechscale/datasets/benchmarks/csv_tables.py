"""CSV tables of benchmarks: every cell is text, and every error names its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechscale.errors import UserError, nearest


def column_names(path: Path) -> list[str]:
    """The first row of a table; empty for an empty file.

    Raises:
        UserError: the file cannot be opened, or is not CSV in UTF-8.
    """
    return next(_lines(path), (1, []))[1]


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield the line on which each row ends, and its cells in the given columns, or what is wrong with the row.

    Cells are stripped of white space. Blank rows are left out.

    Raises:
        UserError: a column is missing, or the file is not CSV in UTF-8.
    """
    lines = _lines(path)
    _, found = next(lines, (1, []))
    missing = [name for name in columns if name not in found]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)}{nearest(missing[0], found)}; found "
            f"{', '.join(found) or 'nothing'}, wanted {', '.join(columns)}. Take the table as it was released."
        )
    for line, cells in lines:
        if len(cells) == len(found):
            row = dict(zip(found, cells, strict=True))
            yield line, {name: row[name].strip() for name in columns}
        elif cells:
            yield line, f"has {len(cells)} cells, the header {len(found)}; quote commas or complete the row"


def require_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """As `read_rows`, for tables of which every row must be right.

    Raises:
        UserError: as `read_rows`, or a row has more or fewer cells than the header.
    """
    for line, row in read_rows(path, columns):
        if isinstance(row, str):
            raise UserError(f"{path}: line {line} {row}.")
        yield line, row


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
        raise UserError(f"{path}: line {reader.line_num}: not CSV ({error}); copy the file again.") from error
