"""Reading of text benchmarks: one module per layout, dispatched by `read_text_benchmark`."""

from __future__ import annotations

from pathlib import Path

from speechscale.datasets.benchmarks.csv_tables import column_names
from speechscale.datasets.benchmarks.text import blimp, storycloze, zerospeech
from speechscale.errors import UserError
from speechscale.records.text_pairs import TextBenchmark

# Tables, each by a column that no other has.
_READERS_BY_COLUMN = {
    "correctness": storycloze.read_rows_per_text,
    storycloze.FIRST_ENDING: storycloze.read_row_per_story,
    "transcription": zerospeech.read_syntactic,
    "phones": zerospeech.read_lexical,
}


def read_text_benchmark(path: Path) -> TextBenchmark:
    """The pairs of a benchmark in any known layout.

    These are BLiMP's JSON Lines (a file, or a folder of them), StoryCloze tables in two forms, and the gold files of
    ZeroSpeech 2021.

    Raises:
        UserError: no such file, an unknown layout, or an error in the file; the sentence names the row or item.
    """
    path = Path(path)
    if path.is_dir() or path.suffix in (".jsonl", ".json"):
        return blimp.read_blimp(path)
    columns = column_names(path)
    for column, read in _READERS_BY_COLUMN.items():
        if column in columns:
            return read(path)
    raise UserError(
        f"{path}: no text benchmark that is known here; found the columns {', '.join(columns) or 'none'}. Wanted is "
        "JSON Lines of BLiMP, a StoryCloze table (pair_id, text, type, correctness; or InputSentence1 to 4, "
        "RandomFifthSentenceQuiz1 and 2, AnswerRightEnding), or a gold file of ZeroSpeech 2021."
    )
