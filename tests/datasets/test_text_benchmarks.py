"""Written benchmarks, read from tables and lines as their makers lay them out, with everything that can be wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError

BLIMP = {  # first lines of three paradigms of the benchmark, keys we do not use left out
    "animate_subject_trans": ("Tina revealed Margaret.", "The horse revealed Margaret.", "s-selection"),
    "causative": ("Aaron breaks the glass.", "Aaron appeared the glass.", "argument_structure"),
    "ellipsis_n_bar_1": (
        "Brad passed one big museum and Eva passed several.",
        "Brad passed one museum and Eva passed several big.",
        "ellipsis",
    ),
}


def blimp_line(paradigm: str, pair: str = "0", **changes: object) -> str:
    good, bad, term = BLIMP[paradigm]
    row = {
        "sentence_good": good,
        "sentence_bad": bad,
        "field": "syntax",
        "linguistics_term": term,
        "UID": paradigm,
        "simple_LM_method": True,
        "pairID": pair,
    }
    return json.dumps({**row, **changes}) + "\n"


def table(path: Path, columns: str, *rows: tuple[object, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns.split(","))
        writer.writerows(rows)
    return path


ROWS = "pair_id,text,type,correctness"
STORY = (
    (7, 'Ann said, "I am\nhungry".', "prompt", "-"),
    (7, "She ate.", "continuation", "correct"),
    (7, "She slept.", "continuation", "incorrect"),
)
CLASSICAL = (
    "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,RandomFifthSentenceQuiz1,"
    "RandomFifthSentenceQuiz2,AnswerRightEnding"
)
SYNTACTIC = "filename,id,voice,type,subtype,transcription,correct"
LEXICAL = "filename,id,voice,frequency,word,phones,length,correct"
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


def test_blimp_from_a_folder(tmp_path: Path) -> None:
    for paradigm in BLIMP:
        (tmp_path / f"{paradigm}.jsonl").write_text(blimp_line(paradigm) + blimp_line(paradigm, "1"))
    found = read_text_benchmark(tmp_path)
    assert [pair.pair_id for pair in found.pairs[:3]] == [
        "animate_subject_trans/0",
        "animate_subject_trans/1",
        "causative/0",
    ]
    first = found.pairs[0]
    assert (first.correct, first.wrong) == BLIMP["animate_subject_trans"][:2]
    # The paper's 12 phenomena: the two paradigms of s-selection belong to argument structure.
    assert {pair.phenomenon for pair in found.pairs} == {"argument_structure", "ellipsis"}
    assert found.notes == (
        "3 paradigms of BLiMP; the official set has 67",
        "6 pairs of BLiMP; the official set has 3,000",
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (blimp_line("causative") + "[]\n", "line 2 is no JSON object"),
        (blimp_line("causative") + "{\n", "line 2 cannot be read as JSON"),
        (blimp_line("causative", sentence_bad=" "), "line 1 has no text under 'sentence_bad'"),
        (blimp_line("causative", pairID=None), "line 1 has no 'pairID'"),
        (blimp_line("causative") * 2, "line 2 repeats the pair causative/0"),
        ("\n", "holds no pairs"),
    ],
)
def test_what_is_wrong_with_blimp(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "b.jsonl").write_text(lines)
    with pytest.raises(UserError, match=said):
        read_text_benchmark(tmp_path / "b.jsonl")


def test_storycloze_in_three_rows_a_question_whatever_their_order(tmp_path: Path) -> None:
    found = read_text_benchmark(table(tmp_path / "s.csv", ROWS, STORY[2], STORY[0], STORY[1]))
    (pair,) = found.pairs
    assert pair.prompt == 'Ann said, "I am\nhungry".'
    assert (pair.correct, pair.wrong, pair.pair_id) == ("She ate.", "She slept.", "7")
    assert found.notes == ("1 questions of StoryCloze; the official set has 1,871",)


def test_the_whole_of_storycloze_needs_no_note(tmp_path: Path) -> None:
    rows = [(number, *cells) for number in range(1871) for _, *cells in STORY]
    assert read_text_benchmark(table(tmp_path / "s.csv", ROWS, *rows)).notes == ()


@pytest.mark.parametrize(
    ("rows", "said"),
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
def test_what_is_wrong_with_storycloze(tmp_path: Path, rows: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_text_benchmark(table(tmp_path / "s.csv", ROWS, *rows))


def test_classical_storycloze(tmp_path: Path) -> None:
    rows = [("one", *"abcd", "bad", "good", 2), ("two", *"efgh", "right", "left", 1)]
    first, second = read_text_benchmark(table(tmp_path / "s.csv", CLASSICAL, *rows)).pairs
    assert (first.prompt, first.correct, first.wrong) == ("a b c d", "good", "bad")
    assert (second.prompt, second.correct, second.wrong) == ("e f g h", "right", "left")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("one", *"abcd", "x", "y", 0)], "AnswerRightEnding of one is '0'; 1 or 2 is wanted"),
        ([("one", *"abcd", "x", "y", 1)] * 2, "line 3 repeats the story one"),
        ([("one", "a", "b", "", "d", "x", "y", 1)], "InputSentence3 of one is empty"),
    ],
)
def test_what_is_wrong_with_classical_storycloze(tmp_path: Path, rows: list, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_text_benchmark(table(tmp_path / "s.csv", CLASSICAL, *rows))


def test_blind_storycloze_has_no_answers(tmp_path: Path) -> None:
    columns = CLASSICAL.rsplit(",", 1)[0]
    with pytest.raises(UserError, match="column 'AnswerRightEnding' is missing"):
        read_text_benchmark(table(tmp_path / "s.csv", columns, ("one", *"abcd", "x", "y")))


def test_voices_of_a_transcript_count_once(tmp_path: Path) -> None:
    (pair,) = read_text_benchmark(table(tmp_path / "gold.csv", SYNTACTIC, *reversed(SPOKEN))).pairs
    assert (pair.correct, pair.wrong) == ("she likes herself", "she likes himself")
    assert (pair.phenomenon, pair.group_id) == ("anaphor", "anaphor/gender/12")


def test_words_where_both_members_are_spelled(tmp_path: Path) -> None:
    """`null` and `nan` are spellings, not missing values; `NaN` stands for a non-word without spelling."""
    found = read_text_benchmark(table(tmp_path / "gold.csv", LEXICAL, *WORDS))
    assert [(pair.correct, pair.wrong, pair.frequency) for pair in found.pairs] == [
        ("brick", "blick", 0.0),
        ("null", "nan", 37.5),
    ]
    assert found.notes == ("1 words left out, for a member has no spelling",)


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (SYNTACTIC, SPOKEN[:1], "anaphor/gender/12 has no wrong member"),
        (SYNTACTIC, [*SPOKEN, SPOKEN[0]], "line 6 repeats the file f11"),
        (SYNTACTIC, [(*SPOKEN[0][:-1], 2)], "correct is '2' for f11; wanted is 0 or 1"),
        (SYNTACTIC, [*SPOKEN, ("x", *SPOKEN[0][1:5], "else", 1)], "x says 'else'; another voice"),
        (SYNTACTIC, [], "no pair that is spelled"),
        ("filename,id,transcription,correct", [], "column 'voice' is missing"),
        (LEXICAL, [("a", 1, "v", "often", "cat", "k ae t", 3, 1)], "frequency of a is 'often'"),
        (LEXICAL, [("a", 1, "v", -1, "cat", "k ae t", 3, 1)], "frequency of a is '-1'; a count is wanted"),
        ("a,b", [(1, 2)], "no written benchmark that is known here; found the columns a, b"),
    ],
)
def test_what_is_wrong_with_gold_files(tmp_path: Path, columns: str, rows: list, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_text_benchmark(table(tmp_path / "gold.csv", columns, *rows))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "open.csv").write_text('pair_id,text,type,correctness\n7,"never closed')
    for name, said in (
        ("nowhere.csv", "cannot be opened"),
        ("nowhere.jsonl", "cannot be opened"),
        ("binary.csv", "not UTF-8"),
        ("open.csv", "not CSV"),
    ):
        with pytest.raises(UserError, match=said):
            read_text_benchmark(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.jsonl files here"):
        read_text_benchmark(tmp_path / "empty")
