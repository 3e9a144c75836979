"""BLiMP (Warstadt et al. 2020): JSON Lines of `sentence_good` and `sentence_bad`, one file per paradigm."""

from __future__ import annotations

from pathlib import Path

from speechscale.datasets.benchmarks.text.checks import count_note
from speechscale.datasets.reading import read_json_lines, with_read_errors
from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.text_pairs import TextBenchmark, TextPair

PAIRS_PER_PARADIGM, NUM_PARADIGMS = 1000, 67
# The files have 13 terms. The 12 phenomena of the paper count the two paradigms of s-selection as argument structure.
_PHENOMENON_OF_TERM = {"s-selection": "argument_structure"}


def read_blimp(path: Path) -> TextBenchmark:
    """Read one file, or every `.jsonl` of a folder.

    Raises:
        UserError: no such file, or a line is no pair; the sentence names it.
    """
    files = sorted(path.glob("[!.]*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no .jsonl files here; BLiMP has one per paradigm, in its folder data.")
    pairs: dict[str, TextPair] = {}
    for file in files:
        for place, line in with_read_errors(read_json_lines(file), file):
            where = str(file.parent / place)
            if isinstance(line, str):
                raise UserError(f"{where}: {line}; correct or remove the line.")
            pair = _pair(where, line)
            if pair.pair_id in pairs:
                raise UserError(f"{where} repeats the pair {pair.pair_id}.")
            pairs[pair.pair_id] = pair
    if not pairs:
        raise UserError(f"{path}: holds no pairs.")
    paradigms = len({pair_id.split("/")[0] for pair_id in pairs})
    notes = count_note("pairs of BLiMP", len(pairs), PAIRS_PER_PARADIGM * paradigms)
    if path.is_dir():
        notes = count_note("paradigms of BLiMP", paradigms, NUM_PARADIGMS) + notes
    return TextBenchmark(tuple(pairs.values()), notes)


def _pair(where: str, line: JsonObject) -> TextPair:
    keys = ("sentence_good", "sentence_bad", "UID", "linguistics_term")
    good, bad, paradigm, term = (_require_text(where, line, key) for key in keys)
    number = line.get("pairID", line.get("pair_id"))  # the second in copies on the Hugging Face hub
    if number is None:
        raise UserError(f"{where} has no 'pairID', so its pair has no name.")
    name = f"{paradigm}/{number}"
    return TextPair(name, name, _PHENOMENON_OF_TERM.get(term, term), good, bad)


def _require_text(where: str, line: JsonObject, key: str) -> str:
    text = line.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where} has no text under {key!r}; found {', '.join(line)}.")
    return text.strip()
