"""BLiMP in JSON Lines, with every fault that a line can have."""

from __future__ import annotations

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
    ("lines", "message"),
    [
        (blimp_line("causative") + "[]\n", r"b\.jsonl:2: not a JSON object but \[\]"),
        (blimp_line("causative") + "{\n", r"b\.jsonl:2: not a JSON object \(Expecting"),
        (blimp_line("causative", sentence_bad=" "), r"b\.jsonl:1 has no text under 'sentence_bad'"),
        (blimp_line("causative", pairID=None), r"b\.jsonl:1 has no 'pairID'"),
        (blimp_line("causative") * 2, r"b\.jsonl:2 repeats the pair causative/0"),
        ("\n", "holds no pairs"),
    ],
)
def test_faults_of_lines(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "b.jsonl").write_text(lines)
    with pytest.raises(UserError, match=message):
        read_text_benchmark(tmp_path / "b.jsonl")
