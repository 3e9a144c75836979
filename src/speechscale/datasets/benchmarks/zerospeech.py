"""ZeroSpeech 2021 (sLM21): wavs with opaque names, and a gold CSV that says what each is; sWUGGY and sBLIMP.

Columns and rules are those of the challenge's own evaluation (zerospeech-benchmarks 0.9.4, `tasks/lm/lexical.py` and
`syntactic.py`), but for one: there, sentence pairs are made by row order, here by type, subtype, id and voice.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechscale.datasets.benchmarks.members import SBLIMP, SWUGGY, Benchmark, Fault, Member, PairKey, member
from speechscale.errors import SampleFault, UserError
from speechscale.speech.audio.decode import resolve_inside

GOLD, INDEX = "gold.csv", "index.json"
_SETS = ("dev", "test")
_COLUMNS = {
    "lexical": ("filename", "id", "voice", "frequency", "word", "phones", "correct"),
    "syntactic": ("filename", "id", "voice", "type", "subtype", "transcription", "correct"),
}
_TASKS = {"lexical": SWUGGY, "syntactic": SBLIMP}
_MISSING = ("", "NaN")  # as pandas writes what is missing; "nan" and "null" are words

Row = dict[str, str]


@dataclass(frozen=True)
class Subset:
    """A folder of wavs, and the file that says what they are."""

    kind: str  # "lexical" or "syntactic"
    name: str  # "dev" or "test"
    wavs: Path
    gold: Path

    def key(self, row: Row) -> tuple[str, str]:
        """The group and the pair of a row."""
        parts = [row["id"]] if self.kind == "lexical" else [row["type"], row["subtype"], row["id"]]
        group = "/".join([self.name, *parts])
        return group, f"{group}/{row['voice']}"

    @property
    def task(self) -> str:
        return _TASKS[self.kind]


def looks_like_one(folder: Path) -> bool:
    return folder.is_dir() and bool(subsets(folder))


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Every row of every gold file. A set without gold is told and left out, if another has its own.

    Raises:
        UserError: no gold at all, or one without a column that is needed.
    """
    found = subsets(benchmark.path)
    if not found:
        raise UserError(
            f"{benchmark.path}: no lexical or syntactic folder with dev or test in it; name the folder that has one."
        )
    readable = [subset for subset in found if subset.gold.is_file()]
    without = [f"{subset.kind}/{subset.name}" for subset in found if subset not in readable]
    if not readable:
        raise UserError(
            f"{found[0].gold}: no such file, and without it nobody knows what the wavs in {', '.join(without)} are; "
            f"`zrc datasets:pull sLM21-dataset` brings it, the archive zerospeech2021-dataset.zip does not."
        )
    if without:
        note(f"{', '.join(without)} left out: no {GOLD} there")
    for subset in readable:
        yield from _read(benchmark, subset, note)


def subsets(folder: Path) -> list[Subset]:
    """The sets in a folder, which may be the whole dataset, one kind of it, or one set."""
    index = _index(folder)
    found = []
    for kind in _COLUMNS:
        for name in _SETS:
            if folder.name == name and folder.parent.name == kind:
                wavs = folder
            else:
                wavs = folder / name if folder.name == kind else folder / kind / name
            if wavs.is_dir():
                found.append(Subset(kind, name, wavs, index.get(f"{kind}_{name}", wavs / GOLD)))
    return found


def _index(folder: Path) -> dict[str, Path]:
    """Where the dataset's index says that gold files lie; it has a `subsets.lexical_dev.items.gold` and the like."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["subsets"]
        golds = {
            name: subset["items"]["gold"]["file"]
            for name, subset in listed.items()
            if "gold" in subset["items"]
        }
        return {name: resolve_inside(folder, file) for name, file in golds.items()}
    except SampleFault as fault:
        raise UserError(f"{path}: {fault.detail}; correct it, or remove it.") from fault
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not the index of a dataset ({error!r}); remove it, and {GOLD} beside the wavs is read."
        ) from error


def _read(benchmark: Benchmark, subset: Subset, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    text = _text_column(subset)
    count = 0
    for where, row in _rows(subset):
        count += 1
        yield _member(benchmark, subset, where, row, text)
    wavs = sum(entry.name.endswith(".wav") for entry in os.scandir(subset.wavs))
    if wavs > count:
        note(
            f"{subset.kind}/{subset.name}: {wavs} wavs but {count} rows of {subset.gold.name}; only these are read"
        )


def _member(
    benchmark: Benchmark, subset: Subset, where: str, row: Row | str, text: tuple[str, ...]
) -> Member | Fault:
    if isinstance(row, str):
        return Fault(where, "bad entry", row)
    group, name = subset.key(row)
    pair: PairKey = (subset.task, name)
    empty = [column for column in ("filename", "id", "voice") if not row[column]]
    if empty:
        return Fault(where, "bad entry", f"no {empty[0]}; complete the row")
    if row["correct"] not in ("0", "1"):
        return Fault(where, "bad label", f"correct is {row['correct']!r}, wanted 0 or 1; correct it", pair)
    label = {
        "task": subset.task,
        "group_id": group,
        "pair_id": name,
        "correct": row["correct"] == "1",
        "voice": row["voice"],
        "phenomenon": row.get("type", ""),
        "condition": subset.name,
    }
    try:
        label["frequency"] = _frequency(row.get("frequency", ""))
    except ValueError:
        return Fault(
            where, "bad entry", f"frequency is {row['frequency']!r}, wanted a count; correct it", pair
        )
    stem = row["filename"].removesuffix(".wav")
    words = next((row[column] for column in text if row[column] not in _MISSING), None)
    return member(
        benchmark,
        subset.wavs / f"{stem}.wav",
        f"{where} ({stem})",
        label,
        split=subset.name,
        transcript=words,
    )


def _frequency(cell: str) -> float | None:
    """How often the word occurs in LibriSpeech; non-words may have none."""
    if cell in _MISSING:
        return None
    value = float(cell)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(cell)
    return value


def _text_column(subset: Subset) -> tuple[str, ...]:
    """What is taken for the text of a row, best first.

    Words and non-words must be written alike to be compared, so where no non-word is spelled, phones are taken for
    both, as the challenge's evaluation does.
    """
    if subset.kind == "syntactic":
        return ("transcription",)
    wrong = (row for _, row in _rows(subset) if not isinstance(row, str) and row["correct"] == "0")
    return ("word", "phones") if any(row["word"] not in _MISSING for row in wrong) else ("phones", "word")


def _rows(subset: Subset) -> Iterator[tuple[str, Row | str]]:
    """Where each row is, and its cells as they are written, or what is wrong with it.

    Raises:
        UserError: a column is missing, or the file is no CSV.
    """
    name = f"{subset.kind}/{subset.name}/{subset.gold.name}"
    try:
        with subset.gold.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            missing = [column for column in _COLUMNS[subset.kind] if column not in columns]
            if missing:
                raise UserError(
                    f"{subset.gold}: no column {', '.join(missing)}; found {', '.join(columns) or 'nothing'}, wanted "
                    f"{', '.join(_COLUMNS[subset.kind])}. Take the {GOLD} of the dataset."
                )
            for cells in reader:
                yield f"{name}:{reader.line_num}", _checked(cells, len(columns))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{subset.gold}: not a CSV file ({error}); copy it again.") from error


def _checked(cells: dict[Any, Any], count: int) -> Row | str:
    if None in cells or None in cells.values():
        return f"not {count} cells as in the first row; correct it"
    return {column: cell.strip() for column, cell in cells.items()}
