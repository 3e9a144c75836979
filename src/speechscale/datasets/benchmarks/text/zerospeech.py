"""Gold files of ZeroSpeech 2021: the transcripts of sBLIMP, and the words of sWUGGY where they are spelled."""

from __future__ import annotations

import math
from pathlib import Path

from speechscale.datasets.benchmarks.text.pairs import TextBenchmark, TextPair, one_of_two, read_table
from speechscale.errors import UserError

_MEMBERS = {"1": "correct", "0": "wrong"}
_MISSING = ("", "NaN")  # as pandas writes what is missing; "nan" and "null" are words


def read_syntactic(path: Path) -> TextBenchmark:
    """Every pair once: its voices read the same two sentences.

    Raises:
        UserError: a label other than 0 and 1, a file twice, voices that read different sentences, or a sentence without
            its twin; the sentence names it.
    """
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    columns = ("filename", "id", "voice", "type", "subtype", "transcription", "correct")
    for name, row in _rows(path, columns):
        found = groups.setdefault((row["type"], row["subtype"], row["id"]), {})
        _read_alike(path, name, found, _MEMBERS[row["correct"]], row["transcription"])
    return TextBenchmark(
        tuple(
            TextPair("/".join(key), "/".join(key), key[0], found["correct"], found["wrong"])
            for key, found in _whole(path, groups).items()
        )
    )


def read_lexical(path: Path) -> TextBenchmark:
    """Every pair once of which both members are spelled; a non-word may have phones alone.

    Raises:
        UserError: as in `read_syntactic`, or a frequency that is no number.
    """
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    frequencies: dict[tuple[str, ...], float] = {}
    unspelled: set[tuple[str, ...]] = set()
    for name, row in _rows(path, ("filename", "id", "voice", "frequency", "word", "phones", "correct")):
        key = (row["id"],)
        if row["correct"] == "1":
            frequencies[key] = _frequency(path, name, row["frequency"])
        if row["word"] in _MISSING:
            unspelled.add(key)
        else:
            _read_alike(path, name, groups.setdefault(key, {}), _MEMBERS[row["correct"]], row["word"])
    spelled = {key: found for key, found in groups.items() if key not in unspelled}
    notes = (f"{len(unspelled):,} words left out, for a member has no spelling",) if unspelled else ()
    pairs = tuple(
        TextPair(key[0], key[0], "", found["correct"], found["wrong"], frequency=frequencies[key])
        for key, found in _whole(path, spelled).items()
    )
    return TextBenchmark(pairs, notes)


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Every row with the name of its file, labels checked."""
    rows: dict[str, dict[str, str]] = {}
    for line, row in read_table(path, columns):
        name = row["filename"]
        if row["correct"] not in _MEMBERS:
            raise UserError(
                f"{path}: line {line}: correct is {row['correct']!r} for {name}; wanted is 0 or 1."
            )
        if name in rows:
            raise UserError(f"{path}: line {line} repeats the file {name}.")
        rows[name] = row
    return list(rows.items())


def _read_alike(path: Path, name: str, found: dict[str, str], member: str, text: str) -> None:
    if found.get(member) is None:
        one_of_two(path, name, found, member, text)
    elif found[member] != text:
        raise UserError(
            f"{path}: {name} says {text!r}; another voice of the same pair says {found[member]!r}."
        )


def _whole(
    path: Path, groups: dict[tuple[str, ...], dict[str, str]]
) -> dict[tuple[str, ...], dict[str, str]]:
    for key, found in groups.items():
        lacking = [member for member in _MEMBERS.values() if member not in found]
        if lacking:
            raise UserError(f"{path}: {'/'.join(key)} has no {lacking[0]} member.")
    if not groups:
        raise UserError(f"{path}: holds no pair that is spelled.")
    return groups


def _frequency(path: Path, name: str, text: str) -> float:
    try:
        frequency = float(text)
    except ValueError:
        frequency = math.nan
    if not (math.isfinite(frequency) and frequency >= 0):
        raise UserError(f"{path}: the frequency of {name} is {text!r}; a count is wanted.")
    return frequency
