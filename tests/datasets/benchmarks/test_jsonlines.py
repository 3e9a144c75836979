"""Benchmarks in JSON Lines, with our labels or with those of the study's evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import prepare, prepare_refused, read_skips, short_wav
from corpus_files import lines

from speechscale.datasets.benchmarks import detect_benchmark_layout
from speechscale.datasets.benchmarks.jsonlines import detect_nesting
from speechscale.errors import UserError


def labelled_rows(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for group in ("g1", "g2", "g3"):
        for voice in ("a", "b"):
            for correct in (True, False):
                name = f"{group}-{voice}-{correct}.wav"
                short_wav(folder / "wavs" / name)
                rows.append(
                    {"task": "mine", "group_id": group, "pair_id": f"{group}/{voice}", "voice": voice,
                     "phenomenon": "p", "condition": "c", "correct": correct, "audio": f"wavs/{name}",
                     "text": f"{group} {correct}", "frequency": 3, "prompt_text": group}
                )  # fmt: skip
    return rows


def test_groups_hold_pairs(tmp_path: Path, out: Path) -> None:
    path = lines(tmp_path / "b" / "items.jsonl", reversed(labelled_rows(tmp_path / "b")))
    assert detect_benchmark_layout(path) == "jsonl" and detect_nesting(path) == "jsonl"
    result = prepare(path, out)
    correct, wrong = result.pairs["g2/b"]
    assert (correct.transcript, wrong.transcript) == ("g2 True", "g2 False")
    label = result.labels[correct.id]
    assert (label.group_id, label.voice, label.phenomenon, label.condition) == ("g2", "b", "p", "c")
    assert (label.frequency, label.prompt_text, correct.speaker) == (3, "g2", "b")
    assert result.summary.groups == {("mine", "c"): 3} and correct.split == "test"


def test_ids_may_be_numbers(tmp_path: Path, out: Path) -> None:
    rows = [
        row | {"group_id": i // 4, "pair_id": i // 2} for i, row in enumerate(labelled_rows(tmp_path / "b"))
    ]
    result = prepare(lines(tmp_path / "b" / "items.jsonl", rows), out)
    assert set(result.pairs) == set("012345") and result.summary.groups == {("mine", "c"): 3}


def test_pairs_without_an_id_are_named_by_voice_and_condition(tmp_path: Path, out: Path) -> None:
    rows = [
        {k: v for k, v in row.items() if k not in ("pair_id", "task")}
        for row in labelled_rows(tmp_path / "b")
    ]
    path = lines(tmp_path / "b" / "items.jsonl", rows)
    with pytest.raises(UserError, match=r"items\.jsonl:1: no task; give every line one, or say --task"):
        prepare(path, out)
    assert set(prepare(path, out, task="mine").pairs) == {f"g{n}/{v}/c" for n in (1, 2, 3) for v in "ab"}


def test_groups_of_the_study_are_our_pairs(tmp_path: Path, out: Path) -> None:
    rows = [
        {"id": f"{i}", "group_id": row["pair_id"], "pair_id": row["group_id"], "phenomenon": row["phenomenon"],
         "correct": int(row["correct"]), "audio": row["audio"]}
        for i, row in enumerate(labelled_rows(tmp_path / "sblimp"))
    ]  # fmt: skip
    path = lines(tmp_path / "sblimp" / "items.jsonl", rows)
    assert detect_benchmark_layout(path) == "slm"
    result = prepare(path, out)
    assert result.summary.groups == {("sblimp", ""): 3} and result.summary.pairs == {("sblimp", ""): 6}
    assert result.labels["0"].group_id == "g1" and result.labels["0"].pair_id == "g1/a"
    with pytest.raises(UserError, match="as in the study's own evaluation; say --layout slm"):
        prepare(path, out, layout="jsonl")
    ours = lines(tmp_path / "b" / "items.jsonl", labelled_rows(tmp_path / "b"))
    with pytest.raises(UserError, match="say --layout jsonl"):
        prepare(ours, out, layout="slm")
    both = [row | {"pair_id": row["voice"]} for row in labelled_rows(tmp_path / "b")]
    with pytest.raises(UserError, match="a group_id has several pair_id, and a pair_id several group_id"):
        prepare(lines(tmp_path / "b" / "both.jsonl", both), out)


def test_faults_of_lines(tmp_path: Path, out: Path) -> None:
    rows: list[Any] = labelled_rows(tmp_path / "b")
    rows[0]["correct"] = None
    rows[2]["correct"] = "true"
    rows[4]["audio"] = 7
    del rows[6]["group_id"], rows[6]["pair_id"]
    rows[8]["voice"] = ["a"]
    rows[9]["extra"] = "no object"
    rows.append("{")
    short_wav(tmp_path / "outside.wav")
    rows[10]["audio"] = "../outside.wav"
    path = lines(tmp_path / "b" / "items.jsonl", rows)
    with pytest.raises(UserError, match=r"8 of 8 pairs cannot be used: .*wanted true or false"):
        prepare(path, out, incomplete=True)
    reasons = {skip.id: skip.reason for skip in read_skips(out / "manifest.skips.jsonl")}
    assert reasons == {
        "mine/g1/a": "bad label", "mine/g1/b": "bad label", "mine/g2/a": "no audio", "mine/g2/b": "unpaired",
        "items.jsonl:7": "bad entry", "mine/g3/a": "bad entry", "items.jsonl:13": "bad entry", "mine/g3/b": "outside",
    }  # fmt: skip


def test_members_with_different_labels(tmp_path: Path, out: Path) -> None:
    rows = labelled_rows(tmp_path / "b")
    rows[1]["phenomenon"] = "another"
    _, skips, remaining = prepare_refused(lines(tmp_path / "b" / "items.jsonl", rows), out)
    assert [skip.reason for skip in skips] == ["labels disagree"] and len(remaining.pairs) == 5
    assert "its members have phenomenon 'p' and 'another'" in skips[0].detail
