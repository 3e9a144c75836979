"""Text pairs from gold files of ZeroSpeech 2021, with every fault that a row can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_files import csv_table

from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError

SYNTACTIC = ("filename", "id", "voice", "type", "subtype", "transcription", "correct")
LEXICAL = ("filename", "id", "voice", "frequency", "word", "phones", "length", "correct")
SPOKEN = [
    (f"f{voice}{correct}", 12, f"v{voice}", "anaphor", "gender", text, correct)
    for voice in (1, 2)
    for correct, text in ((1, "she likes herself"), (0, "she likes himself"))
]
WORDS = (
    ("a", 1, "v1", 0.0, "brick", "b r ih k", 4, 1),
    ("b", 1, "v1", 0.0, "blick", "b l ih k", 4, 0),
    ("c", 2, "v1", 37.5, "null", "n ah l", 3, 1),
    ("d", 2, "v1", 37.5, "nan", "n ae n", 3, 0),
    ("e", 3, "v1", 7.0, "cat", "k ae t", 3, 1),
    ("f", 3, "v1", 7.0, "NaN", "k ah t", 3, 0),  # a non-word without spelling
)


def test_a_sentence_pair_counts_once_for_all_voices(tmp_path: Path) -> None:
    (pair,) = read_text_benchmark(csv_table(tmp_path / "gold.csv", SYNTACTIC, reversed(SPOKEN))).pairs
    assert (pair.correct, pair.wrong) == ("she likes herself", "she likes himself")
    assert (pair.phenomenon, pair.group_id) == ("anaphor", "anaphor/gender/12")


def test_word_pairs_of_which_both_members_are_spelled(tmp_path: Path) -> None:
    """`null` and `nan` are spellings, not missing values; `NaN` stands for a non-word without spelling."""
    found = read_text_benchmark(csv_table(tmp_path / "gold.csv", LEXICAL, WORDS))
    assert [(pair.correct, pair.wrong, pair.frequency) for pair in found.pairs] == [
        ("brick", "blick", 0.0),
        ("null", "nan", 37.5),
    ]
    assert found.notes == ("1 words left out, for a member has no spelling",)


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (SYNTACTIC, SPOKEN[:1], "anaphor/gender/12 has no wrong member"),
        (SYNTACTIC, [*SPOKEN, SPOKEN[0]], "line 6 repeats the file f11"),
        (SYNTACTIC, [(*SPOKEN[0][:-1], 2)], "line 2: correct is '2' for f11, wanted 0 or 1"),
        (SYNTACTIC, [*SPOKEN, ("x", *SPOKEN[0][1:5], "else", 1)], "x says 'else'; another voice"),
        (SYNTACTIC, [], "no pair that is spelled"),
        (
            ("filename", "id", "transcription", "correct"),
            [],
            "no column voice, type, subtype; found filename, id",
        ),
        (
            LEXICAL,
            [("a", 1, "v", "often", "cat", "k ae t", 3, 1)],
            "frequency is 'often' for a, wanted a count",
        ),
        (LEXICAL, [("a", 1, "v", -1, "cat", "k ae t", 3, 1)], "frequency is '-1' for a, wanted a count"),
        (("a", "b"), [(1, 2)], "no text benchmark that is known here; found the columns a, b"),
    ],
)
def test_faults_of_gold_files(tmp_path: Path, columns: tuple[str, ...], rows: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_text_benchmark(csv_table(tmp_path / "gold.csv", columns, rows))
