"""Polars data frames from CSV, TSV and Parquet files, and from tables of other libraries."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from speechscale.errors import UserError

LARGEST_FILE = 256 * 2**20  # bytes; tables of runs are much smaller
WANTED = "a CSV or Parquet file with one row a run is wanted"


def read_frame(path: Path) -> pl.DataFrame:
    """Read a CSV, TSV or Parquet file. All columns of text files are strings; the caller converts them.

    Raises:
        UserError: not a table; the sentence names file and row.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise UserError(
                f"{path}: {size / 2**20:.0f} MiB is no table of runs (one row a run; {LARGEST_FILE // 2**20} MiB at "
                "most); was a log or a table of items given by mistake?"
            )
        if size == 0:
            raise UserError(f"{path}: the file is empty; a CSV with a header and one row a run is wanted.")
        # Not read by polars, which would interpret [ and * in a file name as a pattern.
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}); a table of runs is wanted."
        ) from error
    return _parquet(path, content) if path.suffix == ".parquet" else _text(path, content)


def as_frame(table: Any, source: str) -> pl.DataFrame:
    """A polars, pandas or Arrow table, a mapping of columns or a list of rows, as a polars frame.

    Raises:
        UserError: none of these, a repeated column name, or columns of different lengths.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if hasattr(table, "notna"):  # pandas: NaN, NA and NaT all mean an empty cell
        _require_unique_names([str(name) for name in table.columns], source)
        table = {name: table[name].astype(object).where(table[name].notna(), None) for name in table.columns}
    try:
        if isinstance(table, Mapping):
            return pl.DataFrame(
                {str(name): pl.Series(list(cells), strict=False) for name, cells in table.items()}
            )
        return pl.DataFrame(table, infer_schema_length=None, strict=False)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise UserError(
            f"{source}: a {type(table).__name__} that is no table ({str(error).splitlines()[0]}); a data frame, a "
            "mapping of columns of one length or a list of rows is wanted."
        ) from error


def separator_of(path: Path) -> str:
    """The character between the cells of a text file, from its name."""
    return "\t" if path.suffix in (".tsv", ".tab") else ","


def _parquet(path: Path, content: bytes) -> pl.DataFrame:
    try:
        return pl.read_parquet(content)
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); {WANTED}."
        ) from error


def _text(path: Path, content: bytes) -> pl.DataFrame:
    _require_utf8(path, content)
    separator = separator_of(path)
    try:
        lines = content.decode("utf-8-sig").splitlines(keepends=True)
        header = [name.strip() for name in next(csv.reader(lines, delimiter=separator), [])]
        _require_unique_names(header, str(path))
        if len(header) == 1 and ";" in header[0]:
            raise UserError(
                f"{path}: the columns are separated by semicolons; save it with commas, and numbers with points."
            )
        # As strings: a cell that is not a number is reported with its row and column, which polars would not do.
        frame = pl.read_csv(content.rstrip(), infer_schema=False, separator=separator)
    except (pl.exceptions.PolarsError, csv.Error) as error:
        longer = _longer_row(lines, separator, len(header))
        where = f"row {longer} has more cells than the header" if longer else str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as a table ({where}); {WANTED}.") from error
    return frame.rename({old: new for old, new in zip(frame.columns, header, strict=True) if new})


def _require_utf8(path: Path, content: bytes) -> None:
    position = content.find(b"\0")
    if position < 0:
        try:
            content.decode("utf-8")
            return
        except UnicodeDecodeError as error:
            position = error.start
    row = content.count(b"\n", 0, position)
    raise UserError(
        f"{path}: {f'row {row}' if row else 'the header'} holds byte 0x{content[position]:02x}, which is not UTF-8 "
        "text; save it as UTF-8."
    )


def _require_unique_names(names: list[str], source: str) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise UserError(f"{source}: column {name!r} occurs twice; keep one of the two.")


def _longer_row(lines: list[str], separator: str, columns: int) -> int | None:
    """The first row, counted from 1 after the header, with more cells than the header has names."""
    try:
        return next(
            (k for k, row in enumerate(csv.reader(lines, delimiter=separator)) if len(row) > columns), None
        )
    except csv.Error:
        return None
