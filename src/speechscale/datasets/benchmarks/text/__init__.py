"""Benchmarks as written: one module a layout, and one door, `read_written`."""

from __future__ import annotations

from pathlib import Path

from speechscale.datasets.benchmarks.text import blimp, storycloze, zerospeech
from speechscale.datasets.benchmarks.text.pairs import TextBenchmark, header
from speechscale.errors import UserError

# Layouts of one table, by a column that no other has.
_BY_COLUMN = {
    "correctness": storycloze.read_rows,
    storycloze.QUIZ: storycloze.read_classical,
    "transcription": zerospeech.read_syntactic,
    "phones": zerospeech.read_lexical,
}


def read_text_benchmark(path: Path) -> TextBenchmark:
    """The pairs of a benchmark, whatever its layout: BLiMP's JSON Lines (a file, or a folder of them), a StoryCloze
    table in either form, a gold file of ZeroSpeech 2021.

    Raises:
        UserError: no such file, no layout of these, or something wrong in it; the sentence names row or item.
    """
    path = Path(path)
    if path.is_dir() or path.suffix in (".jsonl", ".json"):
        return blimp.read_blimp(path)
    columns = header(path)
    for column, read in _BY_COLUMN.items():
        if column in columns:
            return read(path)
    raise UserError(
        f"{path}: no written benchmark that is known here; found the columns {', '.join(columns) or 'none'}. Wanted is "
        "JSON Lines of BLiMP, a StoryCloze table (pair_id, text, type, correctness; or InputSentence1 to 4, "
        "RandomFifthSentenceQuiz1 and 2, AnswerRightEnding), or a gold file of ZeroSpeech 2021."
    )
