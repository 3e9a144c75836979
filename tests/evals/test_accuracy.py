"""Accuracies by hand, and intervals against the bootstrap and by coverage."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from score_tables import score_table

from speechscale.evals.accuracy import (
    ItemAnswers,
    headline_scores,
    macro_accuracy,
    micro_accuracy,
    task_accuracies,
)
from speechscale.evals.conventions import PRESETS


def test_accuracy_by_hand() -> None:
    """Mean NLL decides, not the sum; a tie is one half; macro averages phenomena, not items."""
    names = ("condition", "phenomenon", "nll_correct", "units_correct", "nll_wrong", "units_wrong")
    table = score_table(
        [
            dict(zip(names, row, strict=True))
            for row in (
                ("seen", "g", 4.0, 4, 2.0, 1),  # 1 < 2 per unit, though the sum is larger: right
                ("seen", "g", 2.0, 1, 1.0, 1),  # wrong
                ("seen", "g", 2.0, 2, 1.0, 1),  # tie
                ("seen", "h", 1.0, 1, 2.0, 1),  # right
                ("unseen", "g", 9.0, 1, 2.0, 1),  # wrong
            )
        ]
    )
    found = headline_scores(table)
    assert found["t.g"].accuracy == pytest.approx(0.5) and found["t.h"].accuracy == 1.0
    assert found["t"].accuracy == pytest.approx(0.75) and found["t"].items == 4
    assert found["t_unseen"].accuracy == 0.0
    assert set(found) == {"t", "t.g", "t.h", "t_unseen"}


def sblimp_table() -> pl.DataFrame:
    """Phenomenon a: one item with voices right, wrong; b: three items right with one voice each."""
    good, bad = {"nll_correct": 1.0, "nll_wrong": 2.0}, {"nll_correct": 2.0, "nll_wrong": 1.0}
    rows = [{"group_id": "a", "phenomenon": "a"} | good, {"group_id": "a", "phenomenon": "a"} | bad]
    rows += [{"group_id": f"b{n}", "phenomenon": "b"} | good for n in range(3)]
    return score_table([{"task": "sblimp"} | row for row in rows])


def test_macro_and_micro_averages_are_reported_and_the_preset_chooses_the_headline() -> None:
    found = {
        (each.part, each.mean_over): each.score
        for each in task_accuracies(sblimp_table(), PRESETS["official"])
    }
    assert found["", "phenomena"].accuracy == pytest.approx((0.5 + 1) / 2)
    assert found["", "items"].accuracy == pytest.approx((0.5 + 3) / 4) and found["", "items"].items == 4
    assert headline_scores(sblimp_table())["sblimp"].accuracy == pytest.approx(0.75)
    assert headline_scores(sblimp_table(), PRESETS["zerospeech"])["sblimp"].accuracy == pytest.approx(3.5 / 4)
    assert headline_scores(sblimp_table(), PRESETS["slamkit"])["sblimp"].accuracy == pytest.approx(4 / 5)


def test_conditions_of_speech_and_text_share_a_score_name() -> None:
    """The split that is scored everywhere needs no name; others, and new voices, keep theirs."""

    def names(*conditions: str) -> set[str]:
        rows = [{"nll_correct": 1.0, "nll_wrong": 2.0, "condition": condition} for condition in conditions]
        return set(headline_scores(score_table(rows).with_columns(task=pl.lit("sblimp"))))

    assert names("dev") == names("") == names("seen") == {"sblimp"}
    assert names("test") == {"sblimp_test"} and names("dev", "test") == {"sblimp", "sblimp_test"}
    assert names("unseen") == {"sblimp_unseen"} and names("seen", "unseen") == {"sblimp", "sblimp_unseen"}


def test_items_are_distinct_across_phenomena() -> None:
    again = sblimp_table().with_columns(group_id=pl.col("group_id").str.replace("a", "b0"))
    for preset in PRESETS.values():
        assert headline_scores(again, preset) == headline_scores(sblimp_table(), preset)


def test_frequency_bands_are_cut_as_in_the_official_code() -> None:
    wins = {0.0: 0, 0.5: 1, 1.0: 1, 4.9: 0, 5.0: 1, 20.0: 1, 99.0: 0, 100.0: 1}
    rows = [{"frequency": f, "nll_correct": 2.0 - w, "nll_wrong": 1.5} for f, w in wins.items()]
    found = {each.part: each.score for each in task_accuracies(score_table(rows), PRESETS["zerospeech"])}
    assert [found[band].accuracy for band in ("oov", "1-5", "6-20", "21-100", ">100")] == [
        0.5,
        0.5,
        1.0,
        0.5,
        1.0,
    ]
    assert found["in_vocabulary"].accuracy == pytest.approx(4 / 6) and found[""].accuracy == pytest.approx(
        5 / 8
    )


def test_intervals_of_repeated_items_match_the_bootstrap() -> None:
    """Items of 1 to 4 voices that agree more than chance would have them."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(1, 5, 300)
    p = rng.beta(2, 1, 300)
    answers = ItemAnswers(rng.binomial(pairs, p).astype(float), pairs.astype(float))
    drawn = rng.integers(0, 300, (4000, 300))
    means = answers.correct[drawn].sum(1) / answers.pairs[drawn].sum(1)
    found, wanted = micro_accuracy(answers), np.quantile(means, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(wanted, abs=0.004)
    assert (
        found.high - found.low > 1.2 * 2 * 1.96 * (0.667 * 0.333 / pairs.sum()) ** 0.5
    )  # wider than of pairs


def answers(right: list[float]) -> ItemAnswers:
    return ItemAnswers(np.array(right), np.ones(len(right)))


def test_wilson_interval_known_value() -> None:
    """Wilson (1927) for 8 of 10 at 95 %: 0.490 to 0.943 (Newcombe 1998)."""
    score = micro_accuracy(answers([1.0] * 8 + [0.0] * 2))
    assert (round(score.low, 3), round(score.high, 3)) == (0.490, 0.943)
    assert micro_accuracy(answers([1.0] * 10)).low > 0.69


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.95])
def test_intervals_have_nominal_coverage(truth: float) -> None:
    rng = np.random.default_rng(0)
    inside = {"one": 0, "macro": 0}
    for _ in range(1500):
        groups = [answers((rng.random(40) < truth).astype(float)) for _ in range(5)]
        for name, score in (("one", micro_accuracy(groups[0])), ("macro", macro_accuracy(groups))):
            inside[name] += score.low <= truth <= score.high
    assert all(0.925 <= count / 1500 <= 0.985 for count in inside.values()), inside


def test_contrasts_of_a_score_table_are_resampled_together() -> None:
    """Ten items of each of six contrasts, which decide all of their items; empty contrasts are no cluster."""
    right = [1, 1, 0, 1, 0, 1]
    rows = [
        {"contrast": f"c{n}", "nll_correct": 2.0 - right[n], "nll_wrong": 1.5, "phenomenon": "p"}
        for n in range(6)
        for _ in range(10)
    ]
    clustered = headline_scores(score_table(rows))["t"]
    plain = headline_scores(score_table([row | {"contrast": ""} for row in rows]))["t"]
    assert clustered.accuracy == plain.accuracy == pytest.approx(4 / 6)
    assert plain.effective_items == pytest.approx(60) and clustered.effective_items == pytest.approx(5)
    assert clustered.low < 0.35 < 0.53 < plain.low
