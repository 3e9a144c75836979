"""StoryCloze tables in both forms, with every fault that a row can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_files import csv_table

from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError

ROWS = ("pair_id", "text", "type", "correctness")
STORY = (
    (7, 'Ann said, "I am\nhungry".', "prompt", "-"),
    (7, "She ate.", "continuation", "correct"),
    (7, "She slept.", "continuation", "incorrect"),
)
CLASSICAL = (
    "InputStoryid",
    *(f"InputSentence{number}" for number in range(1, 5)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
)


def test_three_rows_per_story_in_any_order(tmp_path: Path) -> None:
    found = read_text_benchmark(csv_table(tmp_path / "s.csv", ROWS, (STORY[2], STORY[0], STORY[1])))
    (pair,) = found.pairs
    assert pair.prompt == 'Ann said, "I am\nhungry".'
    assert (pair.correct, pair.wrong, pair.pair_id) == ("She ate.", "She slept.", "7")
    assert found.notes == ("1 questions of StoryCloze; the official set has 1,871",)


def test_the_complete_release_has_no_note(tmp_path: Path) -> None:
    rows = [(number, *cells) for number in range(1871) for _, *cells in STORY]
    assert read_text_benchmark(csv_table(tmp_path / "s.csv", ROWS, rows)).notes == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (STORY[:2], "question 7 has no wrong text"),
        (STORY[1:], "question 7 has no prompt text"),
        ((*STORY, (7, "She ran.", "continuation", "incorrect")), "question 7 has two wrong texts"),
        ((*STORY, (7, "She ran.", "continuation", "2")), "line 6: type 'continuation', correctness '2'"),
        ((*STORY[:2], (7, "", "continuation", "incorrect")), "the wrong text of question 7 is empty"),
        ((*STORY, (8, "a", "prompt")), "line 6 has 3 cells, the header 4"),
        ((), "holds no questions"),
    ],
)
def test_faults_of_rows_per_text(tmp_path: Path, rows: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_text_benchmark(csv_table(tmp_path / "s.csv", ROWS, rows))


def test_classical_table(tmp_path: Path) -> None:
    rows = [("one", *"abcd", "bad", "good", 2), ("two", *"efgh", "right", "left", 1)]
    first, second = read_text_benchmark(csv_table(tmp_path / "s.csv", CLASSICAL, rows)).pairs
    assert (first.prompt, first.correct, first.wrong) == ("a b c d", "good", "bad")
    assert (second.prompt, second.correct, second.wrong) == ("e f g h", "right", "left")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("one", *"abcd", "x", "y", 0)], "AnswerRightEnding of one is '0'; 1 or 2 is wanted"),
        ([("one", *"abcd", "x", "y", 1)] * 2, "line 3 repeats the story one"),
        ([("one", "a", "b", "", "d", "x", "y", 1)], "InputSentence3 of one is empty"),
    ],
)
def test_faults_of_the_classical_table(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_text_benchmark(csv_table(tmp_path / "s.csv", CLASSICAL, rows))


def test_blind_storycloze_is_refused(tmp_path: Path) -> None:
    columns = CLASSICAL[:-1]
    with pytest.raises(UserError, match="no column AnswerRightEnding"):
        read_text_benchmark(csv_table(tmp_path / "s.csv", columns, [("one", *"abcd", "x", "y")]))
