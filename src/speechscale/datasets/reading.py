"""Reading of released data: known layouts, JSON Lines, and errors of the disk as sentences."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

from speechscale.errors import UserError, nearest
from speechscale.records.json_objects import JsonObject

Item = TypeVar("Item")


def require_layout(layout: str, known: Collection[str]) -> None:
    """Refuse an unknown layout.

    Raises:
        UserError: `layout` is not one of the known ones.
    """
    if layout not in known:
        raise UserError(
            f"--layout {layout}: no such layout{nearest(layout, set(known))}; known: {', '.join(known)}."
        )


def with_read_errors(items: Iterator[Item], path: Path) -> Iterator[Item]:
    """The items, with an `OSError` of their source as a sentence about reading.

    Without it, the error would surface in the code that writes the result, and be reported as one of writing.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        yield from items
    except OSError as error:
        where = error.filename or path
        raise UserError(
            f"{where}: cannot be read ({error.strerror or error}); repair the file or the disk and try again."
        ) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, JsonObject | str]]:
    """Yield `file:line` and the JSON object of every line that is not blank, or what is wrong with the line.

    A file that ends in `.gz` is decompressed.

    Raises:
        UserError: the compressed data are damaged or end too early.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path.name}:{number}", _parse_object(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: is not whole ({error}); copy it again.") from error


def _parse_object(line: bytes) -> JsonObject | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object ({error})"
    return value if isinstance(value, dict) else f"not a JSON object but {str(value)[:40]}"
