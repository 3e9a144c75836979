"""Pairs of labelled shards: joined by label in any order; faults are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.evals.tasks import read_pairs
from speechscale.records.shards import Sample, open_shards, write_shard

MADE = {"vocab_size": 12, "eos_token": 10, "pad_token": 11}


def member(item: str, which: str, units: list[int], task: str = "t", condition: str = "seen") -> Sample:
    label = {"task": task, "group_id": item, "pair_id": f"{item}/{condition}", "condition": condition}
    row = {"speaker": "v", "extra": label | {"correct": which == "correct"}}
    return Sample(f"{task}/{item}/{condition}/{which}", np.array([*units, 10], dtype=np.int16), 1.0, row)


def test_pairs_are_joined_by_label_in_any_order(tmp_path: Path) -> None:
    samples = [member("b", "wrong", [2]), member("a", "correct", [3, 4]), member("b", "correct", [1])]
    write_shard(tmp_path / "s0", samples, [], MADE)
    write_shard(tmp_path / "s1", [member("a", "wrong", [5])], [], MADE)
    unpaired: list[str] = []
    whole = list(read_pairs(open_shards(tmp_path), unpaired))
    pairs = {pair.group_id: pair for pair in whole}
    assert unpaired == []
    assert pairs["a"].correct.tolist() == [3, 4] and pairs["a"].wrong.tolist() == [5]
    assert pairs["b"].correct.tolist() == [1] and pairs["b"].wrong.tolist() == [2]


def test_member_without_its_partner_is_named_and_left_out(tmp_path: Path) -> None:
    samples = [member("a", "correct", [1]), member("b", "correct", [1]), member("b", "wrong", [2])]
    write_shard(tmp_path / "s0", samples, [], MADE)
    unpaired: list[str] = []
    whole = list(read_pairs(open_shards(tmp_path), unpaired))
    assert [pair.group_id for pair in whole] == ["b"] and unpaired == ["t/a/seen"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([member("a", "correct", [1])], "none of 1 pairs has both members"),
        ([member("a", "correct", [1]), Sample("x", np.array([10]), 1.0, {})], "x has no benchmark label"),
    ],
)
def test_no_complete_pair_or_no_label_is_refused(tmp_path: Path, samples: list[Sample], message: str) -> None:
    write_shard(tmp_path / "s0", samples, [], MADE)
    with pytest.raises(UserError, match=message):
        list(read_pairs(open_shards(tmp_path), []))


def test_repeated_member_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "s0", [member("a", "correct", [1]), member("a", "wrong", [2])], [], MADE)
    again = member("a", "wrong", [3])
    write_shard(tmp_path / "s1", [Sample("other", again.units, 1.0, again.row)], [], MADE)
    with pytest.raises(UserError, match="two wrong members"):
        list(read_pairs(open_shards(tmp_path), []))


def labelled(item: str, which: str, units: list[int], **fields: object) -> Sample:
    made = member(item, which, units)
    extra = {
        **made.row["extra"],
        **{key: fields.pop(key) for key in ("contrast", "template") if key in fields},
    }  # type: ignore[dict-item]
    return Sample(made.id, made.units, 1.0, {**made.row, "extra": extra, **fields})


def test_contrasts_are_labelled_or_found_from_transcripts_or_units(tmp_path: Path) -> None:
    samples = [
        labelled("a", "correct", [1, 2], contrast="no | some", template="_ dog", transcript="no dog"),
        labelled("a", "wrong", [3, 2], contrast="no | some", template="_ dog", transcript="some dog"),
        labelled("b", "correct", [1, 2], transcript="some dog"),
        labelled("b", "wrong", [3, 2], transcript="no dog"),
        labelled("c", "correct", [1, 2]),
        labelled("c", "wrong", [3, 2]),
        labelled("d", "correct", [4, 3, 2]),
        labelled("d", "wrong", [4, 1, 2], transcript="only one"),
    ]
    write_shard(tmp_path / "s0", samples, [], MADE)
    found = {pair.group_id: pair for pair in read_pairs(open_shards(tmp_path), [])}
    assert {name: (pair.contrast, pair.contrast_source) for name, pair in found.items()} == {
        "a": ("no | some", "label"),
        "b": ("no / some", "text"),
        "c": ("1 / 3", "units"),
        "d": ("1 / 3", "units"),
    }
    assert found["a"].template == "_ dog" and found["b"].template == ""


def test_members_with_different_contrasts_are_refused(tmp_path: Path) -> None:
    samples = [labelled("a", "correct", [1], contrast="x"), labelled("a", "wrong", [2], contrast="y")]
    write_shard(tmp_path / "s0", samples, [], MADE)
    with pytest.raises(UserError, match="differ in contrast"):
        list(read_pairs(open_shards(tmp_path), []))
