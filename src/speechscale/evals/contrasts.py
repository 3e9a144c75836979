"""Contrasts of benchmark pairs: what differs between both members, from their labels, their texts or their units.

Items with the same contrast are decided by the same preference of a model, so intervals resample them together. A
contrast is the same in both directions: "a / an" for a pair that prefers "a" and for one that prefers "an".
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import polars as pl

ContrastSource = Literal["label", "text", "units"]

_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PHONE_SEPARATOR = "|"  # of phoneme mnemonics
_LONGEST = 80  # characters; the end of longer contrasts, of whole endings, is replaced by a digest


def contrast_of_texts(correct: str, wrong: str) -> str:
    """The words that only one of two texts has; of single words the letters or phones; "" where the texts are equal.

    Where both have the same words in different orders, it is the words between their common beginning and end.
    """
    members = [_words(text) for text in (correct, wrong)]
    if all(len(words) == 1 for words in members):
        members = [list(words[0]) for words in members]
    if _PHONE_SEPARATOR in correct or _PHONE_SEPARATOR in wrong:
        members = [text.split(_PHONE_SEPARATOR) for text in (correct, wrong)]
    counts = [Counter(words) for words in members]
    only = [
        _in_order(words, own - other) for words, own, other in zip(members, counts, counts[::-1], strict=True)
    ]
    return _unordered(*only) if any(only) else _unordered(*_between_common_ends(*members))


def contrast_of_units(correct: np.ndarray, wrong: np.ndarray) -> str:
    """The units between the common beginning and the common end of two sequences; "" where they are equal.

    Args:
        correct: integers [units].
        wrong: integers [units].
    """
    return _unordered(*_between_common_ends([str(unit) for unit in correct], [str(unit) for unit in wrong]))


def contrast_sources(scores: pl.DataFrame, task: str) -> dict[str, int]:
    """Number of pairs of a task by the source of their contrast.

    Args:
        scores: a score table (`records/scores.py`).
        task: name of the task.
    """
    counted = scores.filter(pl.col("task") == task, pl.col("contrast_source") != "")
    return dict(sorted(counted.group_by("contrast_source").len().iter_rows()))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def _in_order(words: Sequence[str], wanted: Counter[str]) -> list[str]:
    """The words of a count, in the order of their last occurrences."""
    left, found = Counter(wanted), list[str]()
    for word in reversed(words):
        if left[word] > 0:
            left[word] -= 1
            found.append(word)
    return found[::-1]


def _between_common_ends(first: Sequence[str], second: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    shortest = min(len(first), len(second))
    start = next((n for n in range(shortest) if first[n] != second[n]), shortest)
    most = shortest - start
    end = next((n for n in range(most) if first[-1 - n] != second[-1 - n]), most)
    return first[start : len(first) - end], second[start : len(second) - end]


def _unordered(first: Iterable[str], second: Iterable[str]) -> str:
    low, high = sorted((" ".join(first), " ".join(second)))
    if low == high:
        return ""
    contrast = f"{low} / {high}"
    if len(contrast) <= _LONGEST:
        return contrast
    digest = hashlib.sha256(contrast.encode()).hexdigest()[:16]
    return f"{contrast[: _LONGEST - len(digest) - 2]}… {digest}"
