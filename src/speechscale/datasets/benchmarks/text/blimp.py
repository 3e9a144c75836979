"""BLiMP (Warstadt et al. 2020): JSON Lines of `sentence_good` and `sentence_bad`, one file a paradigm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechscale.datasets.benchmarks.text.pairs import TextBenchmark, TextPair, differs
from speechscale.errors import UserError

PAIRS, PARADIGMS = 1000, 67  # pairs of a paradigm; files of the benchmark
# The files have 13 terms, the paper's 12 phenomena count the two paradigms of s-selection as argument structure.
_AS_IN_THE_PAPER = {"s-selection": "argument_structure"}


def read_blimp(path: Path) -> TextBenchmark:
    """One file, or every `.jsonl` of a folder.

    Raises:
        UserError: no such file, or a line is no pair; the sentence names it.
    """
    files = sorted(path.glob("[!.]*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no .jsonl files here; BLiMP has one a paradigm, in its folder data.")
    pairs: dict[str, TextPair] = {}
    for file in files:
        for number, line in _rows(file):
            pair = _pair(f"{file}: line {number}", line)
            if pair.pair_id in pairs:
                raise UserError(f"{file}: line {number} repeats the pair {pair.pair_id}.")
            pairs[pair.pair_id] = pair
    if not pairs:
        raise UserError(f"{path}: holds no pairs.")
    paradigms = len({pair_id.split("/")[0] for pair_id in pairs})
    notes = differs("pairs of BLiMP", len(pairs), PAIRS * paradigms)
    if path.is_dir():
        notes = differs("paradigms of BLiMP", paradigms, PARADIGMS) + notes
    return TextBenchmark(tuple(pairs.values()), notes)


def _pair(where: str, row: Any) -> TextPair:
    if not isinstance(row, dict):
        raise UserError(f"{where} is no JSON object.")
    texts = [_text(where, row, key) for key in ("sentence_good", "sentence_bad", "UID", "linguistics_term")]
    good, bad, paradigm, term = texts
    number = row.get("pairID", row.get("pair_id"))  # the second in copies on the Hugging Face hub
    if number is None:
        raise UserError(f"{where} has no 'pairID', so its pair has no name.")
    name = f"{paradigm}/{number}"
    return TextPair(name, name, _AS_IN_THE_PAPER.get(term, term), good, bad)


def _text(where: str, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where} has no text under {key!r}; found {', '.join(row)}.")
    return value.strip()


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, json.loads(line)
    except OSError as error:
        raise UserError(f"{file}: cannot be opened ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: line {number or 1} cannot be read as JSON ({error}).") from error
