"""Texts to be spoken, from any source: lines of a file, JSON Lines, Parquet, a folder of these, the story world.

Everything streams: a source of millions of texts costs no memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol

from speechscale.errors import UserError, nearest
from speechscale.records.seal import sha256_file
from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import World

_JSON_LINES, _PARQUET, _LINES = (".jsonl", ".ndjson"), (".parquet",), (".txt",)
_BATCH = 4096  # rows of a Parquet file in memory at a time


@dataclass(frozen=True)
class Text:
    """One text, perhaps empty, and what its source says of it."""

    text: str
    where: str  # it stands, for a person
    id: str | None = None
    speaker: str | None = None
    split: str | None = None


class Source(Protocol):
    """Where texts come from."""

    @property
    def name(self) -> str: ...

    def identity(self) -> dict[str, Any]:
        """What the texts depend on; files with their SHA-256."""
        ...

    def texts(self) -> Iterator[Text]: ...


@dataclass(frozen=True)
class StoryWorld:
    """Stories of a world."""

    size: str
    stories: int
    seed: int
    name = "stories"

    def identity(self) -> dict[str, Any]:
        return asdict(self)

    def texts(self) -> Iterator[Text]:
        world, rng = World(load_lexicon(self.size)), Random(f"{self.seed}/stories")
        for number in range(self.stories):
            yield Text(world.story(rng).text, f"story {number} of the {self.size} world")


@dataclass(frozen=True)
class TextFiles:
    """A file or a folder of files, and how many of its texts are wanted (None: all)."""

    path: Path
    field: str = "text"
    limit: int | None = None

    @property
    def name(self) -> str:
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def identity(self) -> dict[str, Any]:
        files = {_relative(file, self.path): sha256_file(file) for file in text_files(self.path)}
        return {"files": files, "field": self.field, "limit": self.limit}

    def texts(self) -> Iterator[Text]:
        return islice(read_texts(self.path, self.field), self.limit)


def read_texts(path: Path, field: str = "text") -> Iterator[Text]:
    """The texts of a file or, in order of their names, of the files of a folder.

    JSON Lines and Parquet hold the text in `field`, and where they have fields `id`, `speaker` and `split`, these are
    kept. Every other file is text, one utterance a line. A text that is absent, null or no string is empty.

    Raises:
        UserError: not readable, not of its format, or without the field; file and line are named.
    """
    for file in text_files(path):
        if file.suffix.lower() in _JSON_LINES:
            yield from _of_json_lines(file, field)
        elif file.suffix.lower() in _PARQUET:
            yield from _of_parquet(file, field)
        else:
            yield from (Text(line.strip(), where) for where, line in _lines(file))


def text_files(path: Path) -> list[Path]:
    """The files of a source: itself, or what lies in the folder, which must be of one kind.

    Raises:
        UserError: it does not exist, or is a folder without texts or with several kinds of them.
    """
    known = (*_LINES, *_JSON_LINES, *_PARQUET)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file; a text file, JSON Lines, Parquet or a folder of them is wanted."
        )
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in known and file.is_file() and not _is_hidden(file, path)
    )
    kinds = {file.suffix.lower(): file for file in files}
    if not files:
        raise UserError(f"{path}: no texts in this folder; looked for {', '.join(known)}.")
    if len(kinds) > 1:
        raise UserError(
            f"{path}: holds several kinds of text ({', '.join(str(kinds[kind]) for kind in sorted(kinds))}); "
            "name one file, or a folder of one kind."
        )
    return files


def _is_hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def _relative(file: Path, source: Path) -> str:
    return file.relative_to(source).as_posix() if source.is_dir() else file.name


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Where each line stands, and the line."""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                where = f"{file}:{number}"
                yield where, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason}); save the texts as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}).") from error


def _of_json_lines(file: Path, field: str) -> Iterator[Text]:
    first = True
    for where, line in _lines(file):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); one object a line is wanted.") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: found {str(row)[:40]!r}; one JSON object a line is wanted.")
        if first and field not in row:
            raise _no_field(where, field, list(row))
        first = False
        yield _text(row, field, where)


def _of_parquet(file: Path, field: str) -> Iterator[Text]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if field not in names:
                raise _no_field(str(file), field, names)
            columns = [
                field,
                *(name for name in ("id", "speaker", "split") if name in names and name != field),
            ]
            number = 0
            for batch in table.iter_batches(_BATCH, columns=columns):
                for row in batch.to_pylist():
                    yield _text(row, field, f"{file}: row {number}")
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]}).") from error


def _text(row: Mapping[str, Any], field: str, where: str) -> Text:
    text = row.get(field)
    names = {key: _name(row.get(key), key, where) for key in ("id", "speaker", "split") if key != field}
    return Text(text.strip() if isinstance(text, str) else "", where, **names)


def _name(value: Any, key: str, where: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _is_unicode(str(value)):
        raise UserError(f"{where}: {key}: found {value!r}; a string or a whole number is wanted.")
    return str(value)


def _is_unicode(text: str) -> bool:
    """Whether it can be written down; JSON may smuggle in halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _no_field(where: str, field: str, found: list[str]) -> UserError:
    shown = ", ".join(islice(found, 12)) or "none"
    return UserError(
        f"{where}: no field {field!r}{nearest(field, found)}; the fields are {shown}. Name the text with --text-field."
    )
