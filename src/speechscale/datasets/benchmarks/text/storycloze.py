"""StoryCloze as text: a row per text, or the classical table with two endings and the number of the right one."""

from __future__ import annotations

from pathlib import Path

from speechscale.datasets.benchmarks.csv_tables import require_rows
from speechscale.datasets.benchmarks.text.checks import add_member_text, count_note
from speechscale.errors import UserError
from speechscale.records.text_pairs import TextBenchmark, TextPair

# Of the test set (Mostafazadeh et al. 2016), and of sStoryCloze and tStoryCloze, which are made from it.
NUM_STORIES = 1871
FIRST_ENDING = "RandomFifthSentenceQuiz1"
_STORY = [f"InputSentence{number}" for number in range(1, 5)]
_ENDINGS = [FIRST_ENDING, "RandomFifthSentenceQuiz2"]
_MEMBERS = {"prompt": "prompt", "correct": "correct", "incorrect": "wrong"}


def read_rows_per_text(path: Path) -> TextBenchmark:
    """Read `pair_id,text,type,correctness`: three rows per story, for prompt, correct and incorrect ending.

    Raises:
        UserError: unknown labels, or a story with one of the three twice or not at all; the sentence names it.
    """
    stories: dict[str, dict[str, str]] = {}
    for line, row in require_rows(path, ("pair_id", "text", "type", "correctness")):
        label = "prompt" if row["type"] == "prompt" else row["correctness"]
        if label not in _MEMBERS:
            raise UserError(
                f"{path}: line {line}: type {row['type']!r}, correctness {row['correctness']!r}; wanted is the type "
                "prompt, or the correctness correct or incorrect."
            )
        story = row["pair_id"]
        texts = stories.setdefault(story, {})
        add_member_text(path, f"question {story}", texts, _MEMBERS[label], row["text"])
    for story, texts in stories.items():
        missing = [member for member in _MEMBERS.values() if member not in texts]
        if missing:
            raise UserError(f"{path}: question {story} has no {' and no '.join(missing)} text.")
    return _benchmark(
        path,
        [
            TextPair(story, story, "", texts["correct"], texts["wrong"], texts["prompt"])
            for story, texts in stories.items()
        ],
    )


def read_row_per_story(path: Path) -> TextBenchmark:
    """Read `InputStoryid`, four sentences, two endings and the number of the right one.

    Raises:
        UserError: an answer other than 1 and 2, an empty sentence, or a story twice; the sentence names it.
    """
    pairs: dict[str, TextPair] = {}
    for line, row in require_rows(path, ["InputStoryid", *_STORY, *_ENDINGS, "AnswerRightEnding"]):
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
    return _benchmark(path, list(pairs.values()))


def _benchmark(path: Path, pairs: list[TextPair]) -> TextBenchmark:
    if not pairs:
        raise UserError(f"{path}: holds no questions.")
    return TextBenchmark(tuple(pairs), count_note("questions of StoryCloze", len(pairs), NUM_STORIES))
