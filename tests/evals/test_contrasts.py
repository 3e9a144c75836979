"""Contrasts found from texts and from units, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from score_tables import score_table

from speechscale.evals.contrasts import contrast_of_texts, contrast_of_units, contrast_sources


@pytest.mark.parametrize(
    ("correct", "wrong", "contrast"),
    [
        ("The girl sees herself.", "The girl sees himself.", "herself / himself"),
        ("No dog ever sleeps.", "Some dog ever sleeps!", "no / some"),
        ("The dogs that sleep are here", "The dog that sleeps is here", "dog sleeps is / dogs sleep are"),
        ("He has not slept", "He has slept", " / not"),
        ("the dog saw the cat", "the cat saw the dog", "cat saw the dog / dog saw the cat"),
        ("bed", "bad", "a / e"),
        ("B|EH|D", "B|AE|D", "AE / EH"),
        ("B EH D", "B AE D", "ae / eh"),
        ("the same", "The same.", ""),
    ],
)
def test_contrast_of_texts_is_the_words_of_one_member_only(correct: str, wrong: str, contrast: str) -> None:
    assert contrast_of_texts(correct, wrong) == contrast == contrast_of_texts(wrong, correct)


@pytest.mark.parametrize(
    ("correct", "wrong", "contrast"),
    [
        ([1, 2, 3, 9], [1, 5, 6, 9], "2 3 / 5 6"),
        ([1, 5, 6, 9], [1, 2, 3, 9], "2 3 / 5 6"),
        ([7, 7, 2], [7, 2], " / 7"),
        ([1, 2], [1, 2], ""),
        ([], [4], " / 4"),
    ],
)
def test_contrast_of_units_is_between_the_common_ends(
    correct: list[int], wrong: list[int], contrast: str
) -> None:
    assert contrast_of_units(np.array(correct), np.array(wrong)) == contrast


def test_long_contrasts_are_shortened_and_distinct() -> None:
    endings = [" ".join(f"word{n}x{k}" for n in range(40)) for k in range(3)]
    found = {contrast_of_texts(endings[0], other) for other in endings[1:]}
    assert len(found) == 2 and all(len(contrast) <= 80 for contrast in found)


def test_pairs_are_counted_by_the_source_of_their_contrast() -> None:
    sources = ["text", "units", "text", ""]
    table = score_table([{"contrast_source": source} for source in sources])
    assert contrast_sources(table, "t") == {"text": 2, "units": 1}
