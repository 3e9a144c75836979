"""From labelled shards to accuracies: pairing by label, conventions by hand, intervals that cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from speechscale.errors import UserError
from speechscale.evals.accuracy import ItemAnswers, headline_scores, macro_accuracy, micro_accuracy
from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import Pair, read_pairs
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.scores import COLUMNS, SpecialTokens, read_scores, write_scores
from speechscale.records.shards import Sample, open_shards, write_shard

AROUND = SpecialTokens(before_first=10, closing=10)
MADE = {"vocab_size": 12, "eos_token": 10, "pad_token": 11}


def member(item: str, which: str, units: list[int], task: str = "t", condition: str = "seen") -> Sample:
    label = {"task": task, "group_id": item, "pair_id": f"{item}/{condition}", "condition": condition}
    row = {"speaker": "v", "extra": label | {"correct": which == "correct"}}
    return Sample(f"{task}/{item}/{condition}/{which}", np.array([*units, 10], dtype=np.int16), 1.0, row)


def test_pairs_are_joined_by_label_whatever_the_order(tmp_path: Path) -> None:
    samples = [member("b", "wrong", [2]), member("a", "correct", [3, 4]), member("b", "correct", [1])]
    write_shard(tmp_path / "s0", samples, [], MADE)
    write_shard(tmp_path / "s1", [member("a", "wrong", [5])], [], MADE)
    unpaired: list[str] = []
    whole = list(read_pairs(open_shards(tmp_path), unpaired))
    pairs = {pair.group_id: pair for pair in whole}
    assert unpaired == []
    assert pairs["a"].correct.tolist() == [3, 4] and pairs["a"].wrong.tolist() == [5]
    assert pairs["b"].correct.tolist() == [1] and pairs["b"].wrong.tolist() == [2]


def test_an_item_without_its_twin_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    samples = [member("a", "correct", [1]), member("b", "correct", [1]), member("b", "wrong", [2])]
    write_shard(tmp_path / "s0", samples, [], MADE)
    unpaired: list[str] = []
    whole = list(read_pairs(open_shards(tmp_path), unpaired))
    assert [pair.group_id for pair in whole] == ["b"] and unpaired == ["t/a/seen"]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([member("a", "correct", [1])], "none of 1 pairs has both members"),
        ([member("a", "correct", [1]), Sample("x", np.array([10]), 1.0, {})], "x has no benchmark label"),
    ],
)
def test_no_pair_at_all_or_no_label_is_an_error(tmp_path: Path, samples: list[Sample], said: str) -> None:
    write_shard(tmp_path / "s0", samples, [], MADE)
    with pytest.raises(UserError, match=said):
        list(read_pairs(open_shards(tmp_path), []))


def test_a_member_twice_is_caught(tmp_path: Path) -> None:
    write_shard(tmp_path / "s0", [member("a", "correct", [1]), member("a", "wrong", [2])], [], MADE)
    again = member("a", "wrong", [3])
    write_shard(tmp_path / "s1", [Sample("other", again.units, 1.0, again.row)], [], MADE)
    with pytest.raises(UserError, match="two wrong members"):
        list(read_pairs(open_shards(tmp_path), []))


def test_scores_follow_the_convention_of_the_study() -> None:
    """BOS before, terminal EOS not scored."""
    torch.manual_seed(0)
    shape = ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=16, hidden_multiple=8)
    model = Transformer(shape).eval()
    pair = Pair("t", "a", "a", np.array([1, 2]), np.array([3]))
    table = score_pairs(model, [pair], AROUND, dtype=torch.float32)
    with torch.no_grad():
        log_p = model(torch.tensor([[10, 1]]))[0].log_softmax(-1)
    assert table["nll_correct"][0] == pytest.approx(-(log_p[0, 1] + log_p[1, 2]).item(), rel=1e-5)
    assert (table["units_correct"][0], table["units_wrong"][0]) == (2, 1)


def scores(rows: list[tuple[str, str, str, float, int, float, int]]) -> pl.DataFrame:
    names = ("task", "condition", "phenomenon", "nll_correct", "units_correct", "nll_wrong", "units_wrong")
    told = [dict(zip(names, row, strict=True)) for row in rows]
    blank = {name: "v" if kind == pl.String else None for name, kind in COLUMNS.items()}
    rest = [{"group_id": f"i{n}", "pair_id": f"i{n}"} for n in range(len(rows))]
    return pl.DataFrame([blank | a | b for a, b in zip(told, rest, strict=True)], schema=COLUMNS)


def test_accuracy_by_hand() -> None:
    """Mean NLL decides, not the sum; a tie is one half; macro averages groups, not items."""
    table = scores(
        [
            ("t", "seen", "g", 4.0, 4, 2.0, 1),  # 1 < 2 per unit, though the sum is larger: right
            ("t", "seen", "g", 2.0, 1, 1.0, 1),  # wrong
            ("t", "seen", "g", 2.0, 2, 1.0, 1),  # tie
            ("t", "seen", "h", 1.0, 1, 2.0, 1),  # right
            ("t", "unseen", "g", 9.0, 1, 2.0, 1),  # wrong
        ]
    )
    found = headline_scores(table)
    assert found["t.g"].accuracy == pytest.approx(0.5) and found["t.h"].accuracy == 1.0
    assert found["t"].accuracy == pytest.approx(0.75) and found["t"].items == 4
    assert found["t_unseen"].accuracy == 0.0
    assert set(found) == {"t", "t.g", "t.h", "t_unseen"}


def answers(right: list[float]) -> ItemAnswers:
    return ItemAnswers(np.array(right), np.ones(len(right)))


def test_wilson_interval_known_value() -> None:
    """Wilson (1927) for 8 of 10 at 95 %: 0.490 to 0.943 (Newcombe 1998)."""
    score = micro_accuracy(answers([1.0] * 8 + [0.0] * 2))
    assert (round(score.low, 3), round(score.high, 3)) == (0.490, 0.943)
    assert micro_accuracy(answers([1.0] * 10)).low > 0.69


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.95])
def test_intervals_cover(truth: float) -> None:
    rng = np.random.default_rng(0)
    inside = {"one": 0, "macro": 0}
    for _ in range(1500):
        groups = [answers((rng.random(40) < truth).astype(float)) for _ in range(5)]
        for name, score in (("one", micro_accuracy(groups[0])), ("macro", macro_accuracy(groups))):
            inside[name] += score.low <= truth <= score.high
    assert all(0.925 <= count / 1500 <= 0.985 for count in inside.values()), inside


def test_score_table_round_trip(tmp_path: Path) -> None:
    table = scores([("t", "seen", "g", 4.0, 4, 2.0, 1)])
    write_scores(table, tmp_path / "scores.parquet")
    assert read_scores(tmp_path / "scores.parquet").equals(table)
    table.drop("voice").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(UserError, match="columns voice are missing"):
        read_scores(tmp_path / "less.parquet")
