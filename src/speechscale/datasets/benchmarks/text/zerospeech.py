"""Texts of ZeroSpeech 2021 from its gold files: transcripts of sBLIMP, and words of sWUGGY where they are spelled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechscale.datasets.benchmarks.text.checks import add_member_text
from speechscale.datasets.benchmarks.zerospeech_gold import GoldFault, GoldKind, GoldRow, read_gold
from speechscale.errors import UserError
from speechscale.records.text_pairs import TextBenchmark, TextPair

_Item = tuple[str, ...]
_Texts = dict[_Item, dict[str, str]]  # texts of the correct and the wrong member


def read_syntactic(path: Path) -> TextBenchmark:
    """Every sentence pair once; all its voices read the same two sentences.

    Raises:
        UserError: a row cannot be used, a file occurs twice, voices read different sentences, or a pair lacks a
            member; the sentence names it.
    """
    texts: _Texts = {}
    for row in _rows(path, "syntactic"):
        _add_text(path, row, texts.setdefault(row.item, {}), row.transcription)
    _require_both_members(path, texts)
    return TextBenchmark(
        tuple(
            TextPair("/".join(item), "/".join(item), item[0], pair["correct"], pair["wrong"])
            for item, pair in texts.items()
        )
    )


def read_lexical(path: Path) -> TextBenchmark:
    """Every pair of a word and a non-word once, where both are spelled; a non-word may have phones alone.

    Raises:
        UserError: as in `read_syntactic`.
    """
    texts: _Texts = {}
    frequencies: dict[_Item, float | None] = {}
    unspelled: set[_Item] = set()
    for row in _rows(path, "lexical"):
        if row.correct:
            frequencies[row.item] = row.frequency
        if row.word is None:
            unspelled.add(row.item)
        else:
            _add_text(path, row, texts.setdefault(row.item, {}), row.word)
    spelled = {item: pair for item, pair in texts.items() if item not in unspelled}
    _require_both_members(path, spelled)
    notes = (f"{len(unspelled):,} words left out, for a member has no spelling",) if unspelled else ()
    pairs = tuple(
        TextPair(item[0], item[0], "", pair["correct"], pair["wrong"], frequency=frequencies[item])
        for item, pair in spelled.items()
    )
    return TextBenchmark(pairs, notes)


def _rows(path: Path, kind: GoldKind) -> Iterator[GoldRow]:
    """Every row of a gold file of which all rows must be right, each with a file of its own."""
    filenames: set[str] = set()
    for line, row in read_gold(path, kind):
        if isinstance(row, GoldFault):
            raise UserError(f"{path}: line {line}: {row.detail}.")
        if row.filename in filenames:
            raise UserError(f"{path}: line {line} repeats the file {row.filename}.")
        filenames.add(row.filename)
        yield row


def _add_text(path: Path, row: GoldRow, pair: dict[str, str], text: str | None) -> None:
    """Add the text of one voice to its pair; other voices of the pair must have the same text."""
    member = "correct" if row.correct else "wrong"
    if member not in pair:
        add_member_text(path, row.filename, pair, member, text or "")
    elif pair[member] != text:
        raise UserError(
            f"{path}: {row.filename} says {text!r}; another voice of the same pair says {pair[member]!r}."
        )


def _require_both_members(path: Path, texts: _Texts) -> None:
    for item, pair in texts.items():
        missing = [member for member in ("correct", "wrong") if member not in pair]
        if missing:
            raise UserError(f"{path}: {'/'.join(item)} has no {missing[0]} member.")
    if not texts:
        raise UserError(f"{path}: holds no pair that is spelled.")
