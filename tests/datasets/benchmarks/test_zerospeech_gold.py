"""Gold files of ZeroSpeech 2021: one reader, so that recordings and texts follow the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import prepare, short_wav
from corpus_files import csv_table

from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.datasets.benchmarks.zerospeech_gold import GOLD_COLUMNS, GoldFault, GoldRow, read_gold
from speechscale.errors import UserError

# filename, id, voice, frequency, word, phones, correct; two pairs without a frequency, of which one has spelling `nan`
WORDS = [
    ("a", 1, "v1", 3.5, "brick", "b r ih k", 1),
    ("b", 1, "v1", "", "blick", "b l ih k", 0),
    ("c.wav", 2, "v1", "", "nan", "n ae n", 1),
    ("d", 2, "v1", "NaN", "null", "n ah l", 0),
    ("e", 3, "v1", "NaN", "cat", "k ae t", 1),
    ("f", 3, "v1", 0, "kat", "k ah t", 0),
]
# filename, id, voice, type, subtype, transcription, correct
SENTENCES = [
    ("a", 12, "v1", "anaphor", "gender", "she likes herself", 1),
    ("b", 12, "v1", "anaphor", "gender", "she likes himself", 0),
    ("c.wav", 7, "v1", "npi", "only", "only he has ever slept", 1),
    ("d", 7, "v1", "npi", "only", "even he has ever slept", 0),
]


def write_subset(folder: Path, kind: str, rows: list[tuple[object, ...]]) -> Path:
    """A subset of the dataset with its wavs; returns the gold file."""
    for filename, *_ in rows:
        short_wav((folder / kind / "dev" / str(filename)).with_suffix(".wav"))
    return csv_table(folder / kind / "dev" / "gold.csv", GOLD_COLUMNS[kind], rows)


@pytest.mark.parametrize(("kind", "rows"), [("lexical", WORDS), ("syntactic", SENTENCES)])
def test_recordings_and_texts_agree(
    tmp_path: Path, out: Path, kind: str, rows: list[tuple[object, ...]]
) -> None:
    gold = write_subset(tmp_path / "sLM21-dataset", kind, rows)
    recordings = prepare(tmp_path / "sLM21-dataset", out)
    of_recordings = {
        (label.group_id, label.phenomenon, label.frequency, correct.transcript, wrong.transcript)
        for correct, wrong in recordings.pairs.values()
        for label in [recordings.labels[correct.id]]
    }
    of_texts = {
        (f"dev/{pair.group_id}", pair.phenomenon, pair.frequency, pair.correct, pair.wrong)
        for pair in read_text_benchmark(gold).pairs
    }
    assert of_recordings == of_texts and len(of_texts) == len(rows) // 2


@pytest.mark.parametrize(
    ("column", "cell", "detail"),
    [
        ("frequency", "often", "frequency is 'often' for a, wanted a count; correct it"),
        ("frequency", "-1", "frequency is '-1' for a, wanted a count; correct it"),
        ("frequency", "inf", "frequency is 'inf' for a, wanted a count; correct it"),
        ("correct", "yes", "correct is 'yes' for a, wanted 0 or 1; correct it"),
        ("voice", "", "has no voice; complete the row"),
        ("id", " ", "has no id; complete the row"),
    ],
)
def test_recordings_and_texts_name_the_same_fault(
    tmp_path: Path, out: Path, column: str, cell: str, detail: str
) -> None:
    index = GOLD_COLUMNS["lexical"].index(column)
    rows = [(*WORDS[0][:index], cell, *WORDS[0][index + 1 :]), *WORDS[1:]]
    gold = write_subset(tmp_path / "sLM21-dataset", "lexical", rows)
    recordings = prepare(tmp_path / "sLM21-dataset", out, incomplete=True)
    assert f"lexical/dev/gold.csv:2: {detail}" in [skip.detail for skip in recordings.skips]
    with pytest.raises(UserError) as caught:
        read_text_benchmark(gold)
    assert str(caught.value) == f"{gold}: line 2: {detail}."


def test_rows(tmp_path: Path) -> None:
    gold = csv_table(tmp_path / "gold.csv", GOLD_COLUMNS["lexical"], [WORDS[2], WORDS[3][:5]])
    (line, row), (faulty_line, fault) = read_gold(gold, "lexical")
    assert (line, faulty_line) == (2, 3)
    assert row == GoldRow(
        filename="c",
        item=("2",),
        voice="v1",
        correct=True,
        phenomenon="",
        transcription=None,
        word="nan",
        phones="n ae n",
        frequency=None,
    )
    assert fault == GoldFault("bad entry", "has 5 cells, the header 7; quote commas or complete the row")
