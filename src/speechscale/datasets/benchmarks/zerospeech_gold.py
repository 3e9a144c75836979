"""Gold files of ZeroSpeech 2021 (sLM21): what each recording of sWUGGY and sBLIMP is.

Columns and rules are those of the challenge's own evaluation (zerospeech-benchmarks 0.9.4, `tasks/lm/lexical.py` and
`syntactic.py`), except that it joins sentence pairs by the order of rows; here type, subtype, id and voice join them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speechscale.datasets.benchmarks.csv_tables import read_rows

GoldKind = Literal["lexical", "syntactic"]  # of sWUGGY, of sBLIMP
GOLD_COLUMNS: dict[GoldKind, tuple[str, ...]] = {
    "lexical": ("filename", "id", "voice", "frequency", "word", "phones", "correct"),
    "syntactic": ("filename", "id", "voice", "type", "subtype", "transcription", "correct"),
}
_MISSING = ("", "NaN")  # as pandas writes a missing value; "nan" and "null" are words of sWUGGY


@dataclass(frozen=True)
class GoldRow:
    """One recording; None stands for an empty cell or a column of the other kind of gold file."""

    filename: str  # without `.wav`
    item: tuple[str, ...]  # id of a word; type, subtype and id of a sentence pair
    voice: str
    correct: bool
    phenomenon: str  # type of a sentence pair; empty for words
    transcription: str | None
    word: str | None
    phones: str | None
    frequency: float | None  # of the word in LibriSpeech


@dataclass(frozen=True)
class GoldFault:
    """A row that cannot be used, and the item and voice of the pair that it breaks, where they are known."""

    reason: str
    detail: str
    item: tuple[str, ...] | None = None
    voice: str = ""


def read_gold(path: Path, kind: GoldKind) -> Iterator[tuple[int, GoldRow | GoldFault]]:
    """Yield the line number of every row, and the row or what is wrong with it.

    Raises:
        UserError: a column is missing, or the file is not CSV in UTF-8.
    """
    for line, cells in read_rows(path, GOLD_COLUMNS[kind]):
        yield line, GoldFault("bad entry", cells) if isinstance(cells, str) else _parse_row(cells, kind)


def _parse_row(cells: dict[str, str], kind: GoldKind) -> GoldRow | GoldFault:
    empty = [column for column in ("filename", "id", "voice") if not cells[column]]
    if empty:
        return GoldFault("bad entry", f"has no {empty[0]}; complete the row")
    filename, voice, correct = cells["filename"].removesuffix(".wav"), cells["voice"], cells["correct"]
    item = (cells["id"],) if kind == "lexical" else (cells["type"], cells["subtype"], cells["id"])
    if correct not in ("0", "1"):
        detail = f"correct is {correct!r} for {filename}, wanted 0 or 1; correct it"
        return GoldFault("bad label", detail, item, voice)
    try:
        frequency = _parse_frequency(cells.get("frequency", ""))
    except ValueError:
        detail = f"frequency is {cells['frequency']!r} for {filename}, wanted a count; correct it"
        return GoldFault("bad entry", detail, item, voice)
    texts = {
        column: None if cells.get(column, "") in _MISSING else cells[column]
        for column in ("transcription", "word", "phones")
    }
    return GoldRow(
        filename=filename,
        item=item,
        voice=voice,
        correct=correct == "1",
        phenomenon=cells.get("type", ""),
        frequency=frequency,
        **texts,
    )


def _parse_frequency(cell: str) -> float | None:
    if cell in _MISSING:
        return None
    frequency = float(cell)
    if not (math.isfinite(frequency) and frequency >= 0):
        raise ValueError(cell)
    return frequency
