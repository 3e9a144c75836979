"""Checks that the readers of text benchmarks share."""

from __future__ import annotations

from pathlib import Path

from speechscale.errors import UserError


def add_member_text(path: Path, pair: str, texts: dict[str, str], member: str, text: str) -> None:
    """Add the text of one member of a pair to `texts`.

    Args:
        path: file of the benchmark, for the error.
        pair: name of the pair, for the error.
        texts: texts found so far, by member.
        member: "correct", "wrong" or "prompt".
        text: the text.

    Raises:
        UserError: the member has a text already, or the text is empty.
    """
    if member in texts:
        raise UserError(f"{path}: {pair} has two {member} texts; a pair has one of each.")
    if not text:
        raise UserError(f"{path}: the {member} text of {pair} is empty.")
    texts[member] = text


def count_note(what: str, found: int, official: int) -> tuple[str, ...]:
    """A remark where a count differs from that of the official release."""
    return () if found == official else (f"{found:,} {what}; the official set has {official:,}",)
