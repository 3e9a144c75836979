"""Sources of texts to synthesise: text files, JSON Lines, Parquet, folders of these, and the story world.

All sources stream: memory does not grow with the number of texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Protocol

from speechscale.errors import UserError, nearest
from speechscale.records.seal import sha256_file
from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import StoryWorld

_JSON_LINES, _PARQUET, _LINES = (".jsonl", ".ndjson"), (".parquet",), (".txt",)
_BATCH_ROWS = 4096  # rows of a Parquet file in memory at a time


@dataclass(frozen=True)
class Text:
    """One text, possibly empty, with the fields that its source states."""

    text: str
    location: str  # file and line or row, for messages
    id: str | None = None
    speaker: str | None = None
    split: str | None = None


class TextSource(Protocol):
    """A source of texts."""

    @property
    def name(self) -> str:
        """The default name of the data set."""
        ...

    def fingerprint(self) -> dict[str, object]:
        """Everything that determines the texts; files with their SHA-256."""
        ...

    def texts(self) -> Iterator[Text]:
        """The texts in order."""
        ...


@dataclass(frozen=True)
class StoryTexts:
    """Stories drawn from a story world."""

    size: str
    stories: int
    seed: int
    name: ClassVar[str] = "stories"

    def fingerprint(self) -> dict[str, object]:
        """Size, number of stories and seed."""
        return asdict(self)

    def texts(self) -> Iterator[Text]:
        """The stories; more of them continue the same sequence."""
        world, rng = StoryWorld(load_lexicon(self.size)), Random(f"{self.seed}/stories")
        for number in range(self.stories):
            yield Text(world.story(rng).text, f"story {number} of the {self.size} world")


@dataclass(frozen=True)
class TextFiles:
    """The texts of a file or a folder of files."""

    path: Path
    field: str = "text"
    limit: int | None = None  # number of texts; None: all

    @property
    def name(self) -> str:
        """The name of the folder, or of the file without its suffix."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def fingerprint(self) -> dict[str, object]:
        """SHA-256 of each file, field and limit.

        Raises:
            UserError: as `text_files`.
        """
        files = {_relative(file, self.path): sha256_file(file) for file in text_files(self.path)}
        return {"files": files, "field": self.field, "limit": self.limit}

    def texts(self) -> Iterator[Text]:
        """The first `limit` texts, as `read_texts` yields them."""
        return islice(read_texts(self.path, self.field), self.limit)


def read_texts(path: Path, field: str = "text") -> Iterator[Text]:
    """The texts of a file or, sorted by name, of the files of a folder.

    JSON Lines and Parquet hold the text in `field`; their fields `id`, `speaker` and `split` are kept where present.
    In all other files every line is one text. A text that is absent, null or not a string is empty.

    Raises:
        UserError: not readable, malformed, or without the field; the sentence names file and line.
    """
    for file in text_files(path):
        if file.suffix.lower() in _JSON_LINES:
            yield from _read_json_lines(file, field)
        elif file.suffix.lower() in _PARQUET:
            yield from _read_parquet(file, field)
        else:
            yield from (Text(line.strip(), location) for location, line in _read_lines(file))


def text_files(path: Path) -> list[Path]:
    """The file itself, or the text files below a folder, which must all be of one kind. Hidden files are ignored.

    Raises:
        UserError: the path does not exist, or is a folder without texts or with several kinds of them.
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


def is_valid_unicode(text: str) -> bool:
    """Whether the text can be encoded: JSON may contain lone surrogates, which cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _relative(file: Path, source: Path) -> str:
    return file.relative_to(source).as_posix() if source.is_dir() else file.name


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Location and content of each line."""
    location = str(file)
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                location = f"{file}:{number}"
                yield location, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{location}: not UTF-8 ({error.reason}); save the texts as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}).") from error


def _read_json_lines(file: Path, field: str) -> Iterator[Text]:
    is_first = True
    for location, line in _read_lines(file):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{location}: not JSON ({error}); one object a line is wanted.") from error
        if not isinstance(row, dict):
            raise UserError(f"{location}: found {str(row)[:40]!r}; one JSON object a line is wanted.")
        if is_first and field not in row:
            raise _missing_field(location, field, list(row))
        is_first = False
        yield _to_text(row, field, location)


def _read_parquet(file: Path, field: str) -> Iterator[Text]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if field not in names:
                raise _missing_field(str(file), field, names)
            columns = [
                field,
                *(name for name in ("id", "speaker", "split") if name in names and name != field),
            ]
            number = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield _to_text(row, field, f"{file}: row {number}")
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({str(error).splitlines()[0]}).") from error


def _to_text(row: Mapping[str, Any], field: str, location: str) -> Text:
    text = row.get(field)
    optional = {
        key: _optional_string(row.get(key), key, location)
        for key in ("id", "speaker", "split")
        if key != field
    }
    return Text(text.strip() if isinstance(text, str) else "", location, **optional)


def _optional_string(value: Any, key: str, location: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not is_valid_unicode(str(value)):
        raise UserError(f"{location}: {key}: found {value!r}; a string or a whole number is wanted.")
    return str(value)


def _missing_field(location: str, field: str, found: list[str]) -> UserError:
    fields = ", ".join(islice(found, 12)) or "none"
    return UserError(
        f"{location}: no field {field!r}{nearest(field, found)}; the fields are {fields}. "
        "Name the text with --text-field."
    )
