"""StoryCloze as written: three rows a question, or the classical table of two endings and which of them is right."""

from __future__ import annotations

from pathlib import Path

from speechscale.datasets.benchmarks.text.pairs import TextBenchmark, TextPair, differs, one_of_two, read_table
from speechscale.errors import UserError

QUESTIONS = (
    1871  # of the test set (Mostafazadeh et al. 2016), and of sStoryCloze and tStoryCloze made from it
)
QUIZ = "RandomFifthSentenceQuiz1"
_STORY = [f"InputSentence{number}" for number in range(1, 5)]
_ENDINGS = [QUIZ, "RandomFifthSentenceQuiz2"]
_MEMBERS = {"prompt": "prompt", "correct": "correct", "incorrect": "wrong"}


def read_rows(path: Path) -> TextBenchmark:
    """`pair_id,text,type,correctness`: a row with the prompt, one with the correct and one with the incorrect ending.

    Raises:
        UserError: unknown labels, a question with one of the three twice, or without one; the sentence names it.
    """
    groups: dict[str, dict[str, str]] = {}
    for line, row in read_table(path, ("pair_id", "text", "type", "correctness")):
        said = "prompt" if row["type"] == "prompt" else row["correctness"]
        if said not in _MEMBERS:
            raise UserError(
                f"{path}: line {line}: type {row['type']!r}, correctness {row['correctness']!r}; wanted is the type "
                "prompt, or the correctness correct or incorrect."
            )
        question = row["pair_id"]
        one_of_two(path, f"question {question}", groups.setdefault(question, {}), _MEMBERS[said], row["text"])
    for question, found in groups.items():
        lacking = [member for member in _MEMBERS.values() if member not in found]
        if lacking:
            raise UserError(f"{path}: question {question} has no {' and no '.join(lacking)} text.")
    return _written(
        path,
        [
            TextPair(question, question, "", found["correct"], found["wrong"], found["prompt"])
            for question, found in groups.items()
        ],
    )


def read_classical(path: Path) -> TextBenchmark:
    """`InputStoryid`, four sentences, two endings, and which of them is right.

    Raises:
        UserError: an answer other than 1 and 2, an empty sentence, or a story twice; the sentence names it.
    """
    pairs: dict[str, TextPair] = {}
    for line, row in read_table(path, ["InputStoryid", *_STORY, *_ENDINGS, "AnswerRightEnding"]):
        story, answer = row["InputStoryid"], row["AnswerRightEnding"]
        if answer not in ("1", "2"):
            raise UserError(
                f"{path}: line {line}: AnswerRightEnding of {story} is {answer!r}; 1 or 2 is wanted."
            )
        empty = [name for name in (*_STORY, *_ENDINGS) if not row[name]]
        if empty:
            raise UserError(f"{path}: line {line}: {empty[0]} of {story} is empty.")
        if story in pairs:
            raise UserError(f"{path}: line {line} repeats the story {story}.")
        endings = [row[name] for name in _ENDINGS]
        right = int(answer) - 1
        prompt = " ".join(row[name] for name in _STORY)
        pairs[story] = TextPair(story, story, "", endings[right], endings[1 - right], prompt)
    return _written(path, list(pairs.values()))


def _written(path: Path, pairs: list[TextPair]) -> TextBenchmark:
    if not pairs:
        raise UserError(f"{path}: holds no questions.")
    return TextBenchmark(tuple(pairs), differs("questions of StoryCloze", len(pairs), QUESTIONS))
