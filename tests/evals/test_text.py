"""Written pairs as tokens."""

from __future__ import annotations

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.evals.text import text_pairs
from speechscale.records.text_pairs import TextPair


def test_prompt_ends_where_the_tokens_of_the_members_differ() -> None:
    def words(text: str) -> np.ndarray:
        return np.array([len(word) for word in text.split()])

    def joined(text: str) -> np.ndarray:  # a tokenizer whose last token of the prompt reaches into the ending
        return np.array([ord(text[i]) * 1000 + ord(text[i + 1]) for i in range(0, len(text) - 1, 2)])

    def merging(text: str) -> np.ndarray:
        return np.array([ord(letter) for letter in text.replace(". ", "\0")])

    story = TextPair("1", "1", "", "she ate", "it ate", "ann was")
    (pair,) = text_pairs("t", [story], words)
    assert (pair.correct.tolist(), pair.wrong.tolist(), pair.prompt) == ([3, 3, 3, 3], [3, 3, 2, 3], 2)
    (pair,) = text_pairs("t", [TextPair("1", "1", "", "ab", "cd", "xyz.")], joined)
    assert pair.prompt == 2
    (pair,) = text_pairs("t", [TextPair("1", "1", "", "ab", "cd", "xyz")], joined)
    assert pair.prompt == 1
    (pair,) = text_pairs("t", [TextPair("1", "1", "", "abc", "abd", "xyz.")], merging)
    assert pair.prompt == 3  # `.` is a token of the prompt, `. ` is one of both members
    (pair,) = text_pairs("t", [TextPair("1", "1", "", "she ate", "she ran")], words)
    assert pair.prompt == 0  # none, which is known
    with pytest.raises(UserError, match="t/1: a text without tokens"):
        list(text_pairs("t", [TextPair("1", "1", "", "she", " ")], words))
