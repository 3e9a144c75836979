"""Each convention against likelihoods computed by hand, intervals against brute force, and two models compared."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_transformer

from speechscale.errors import UserError
from speechscale.evals import score
from speechscale.evals.accuracy import Answers, accuracies, interval, score_table
from speechscale.evals.compare import compare
from speechscale.evals.conventions import PRESETS, Convention, convention, judged, unscored
from speechscale.evals.published_scores import PUBLISHED, ReportedConvention
from speechscale.evals.score import score_pairs
from speechscale.evals.submission import write_submission
from speechscale.evals.tasks import Pair
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.scores import COLUMNS

SHAPE = ModelShape(layers=2, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
EOS = 10
UNITS = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_transformer(SHAPE, 0.3)


def nlls(model: Transformer, tokens: list[int]) -> list[float]:
    """Of every token but the first, one forward pass a prefix."""
    with torch.no_grad():
        return [
            -model(torch.tensor([tokens[:n]]))[0, -1].log_softmax(-1)[tokens[n]].item()
            for n in range(1, len(tokens))
        ]


@settings(max_examples=25, deadline=None)
@given(prompt=UNITS, correct=UNITS, wrong=UNITS, worth=st.sampled_from([0.0, 1 / 8, 9.0]))
def test_every_section_is_what_single_predictions_add_up_to(
    model: Transformer, prompt: list[int], correct: list[int], wrong: list[int], worth: float
) -> None:
    """Whether the pair is read as one row that forks or as two."""
    pair = Pair("t", "a", "a", np.array(prompt + correct), np.array(prompt + wrong), prompt=len(prompt))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "_WORTH", worth)
        row = score_pairs(model, [pair], bos=EOS, dtype=torch.float32).row(0, named=True)
    for member, ending in (("correct", correct), ("wrong", wrong)):
        by_hand = nlls(model, [EOS, *prompt, *ending, EOS])
        assert row[f"nll_{member}"] == pytest.approx(sum(by_hand[:-1]), rel=1e-4)
        assert row[f"nll_end_{member}"] == pytest.approx(by_hand[-1], rel=1e-4)
        assert row[f"units_{member}"] == len(prompt + ending)
    assert row["nll_prompt"] == pytest.approx(sum(nlls(model, [EOS, *prompt])), rel=1e-4)
    assert row["units_prompt"] == len(prompt)


def test_without_a_token_before_the_first_it_is_not_scored(model: Transformer) -> None:
    pair = Pair("t", "a", "a", np.array([1, 2, 3]), np.array([1, 2, 4, 5]), prompt=2)
    row = score_pairs(model, [pair], bos=None, end=EOS, dtype=torch.float32).row(0, named=True)
    assert row["nll_wrong"] == pytest.approx(sum(nlls(model, [1, 2, 4, 5])), rel=1e-4)
    assert (row["units_correct"], row["units_wrong"], row["units_prompt"]) == (2, 3, 1)


def test_units_are_shifted_to_where_the_vocabulary_has_them(model: Transformer) -> None:
    plain = Pair("t", "a", "a", np.array([3, 4, 5]), np.array([3, 6]))
    shifted = Pair("t", "a", "a", np.array([1, 2, 3]), np.array([1, 4]))
    first = score_pairs(model, [plain], bos=1, dtype=torch.float32)
    assert first.equals(score_pairs(model, [shifted], bos=1, offset=2, dtype=torch.float32))


def test_twins_that_are_the_same_tie_whatever_their_batch(model: Transformer) -> None:
    """Longer than the context, so that nothing forks; the others of a batch change its padding, and the rounding."""
    rng = np.random.default_rng(0)
    both = [rng.integers(0, 10, length) for length in rng.integers(33, 90, 100)]
    pairs = [Pair("t", str(n), str(n), units, units.copy(), prompt=30) for n, units in enumerate(both)]
    scored = score_pairs(model, pairs, bos=EOS, dtype=torch.float32)
    for by in (PRESETS["official"], convention("official", given="prompt", terminal=True)):
        assert judged(scored, by)["right"].to_list() == [0.5] * 100
    tokens = [EOS, *pairs[0].correct[:31].tolist()]
    short = Pair("t", "a", "a", pairs[0].correct[:31], pairs[0].correct[:31])
    row = score_pairs(model, [short], bos=EOS, dtype=torch.float32).row(0, named=True)
    assert row["nll_correct"] == row["nll_wrong"] == pytest.approx(sum(nlls(model, tokens)), rel=1e-4)


def table(rows: list[dict]) -> pl.DataFrame:
    blank = {name: "" if kind == pl.String else None for name, kind in COLUMNS.items()}
    usual = blank | {
        "task": "t",
        "units_correct": 1,
        "units_wrong": 1,
        "nll_end_correct": 0.0,
        "nll_end_wrong": 0.0,
    }
    ids = [{"group_id": f"g{n}", "pair_id": f"p{n}"} for n in range(len(rows))]
    return pl.DataFrame([usual | i | row for i, row in zip(ids, rows, strict=True)], schema=COLUMNS)


def right(row: dict, **switches: object) -> float:
    return judged(table([row]), convention("official", **switches))["right"][0]


def test_each_switch_decides_as_it_says() -> None:
    longer = {"nll_correct": 4.0, "units_correct": 4, "nll_wrong": 2.0, "units_wrong": 1}
    assert right(longer) == 1.0 and right(longer, nll="sum") == 0.0
    closing = longer | {"nll_end_correct": 16.0}
    assert right(closing) == 1.0 and right(closing, terminal=True) == 0.0
    tie = {"nll_correct": 1.0, "nll_wrong": 1.0}
    assert right(tie) == 0.5 and right(tie, ties="lost") == 0.0
    assert right(tie | {"task": "tstorycloze"}) == 0.0
    assert right(tie | {"task": "tstorycloze"}, ties="half") == 0.5
    assert right(tie | {"task": "tStoryCloze"}) == 0.0
    story = {"nll_correct": 9.0, "units_correct": 4, "nll_wrong": 10.0, "units_wrong": 5}
    story |= {"nll_prompt": 6.0, "units_prompt": 3}
    assert right(story) == 0.0  # 9/4 > 10/5
    assert (
        right(story, given="prompt") == 0.0 and right(story, given="prompt", nll="sum") == 1.0
    )  # 3 > 4/2, 3 < 4
    with pytest.raises(UserError, match="t/p0: where its prompt ends is not known"):
        right(tie, given="prompt")


def test_presets_are_those_of_the_field() -> None:
    official, zerospeech, slamkit = (PRESETS[name] for name in ("official", "zerospeech", "slamkit"))
    assert (official.nll, official.terminal, official.ties, official.headline) == (
        "mean",
        False,
        "by-task",
        "macro",
    )
    assert (zerospeech.ties, zerospeech.voices, zerospeech.headline) == ("half", "mean", "micro")
    assert (slamkit.nll, slamkit.terminal, slamkit.voices) == ("mean", True, "pairs")
    assert convention("official", nll="mean") == official
    assert convention("official", nll="sum").preset == "official, changed"
    with pytest.raises(UserError, match="did you mean 'slamkit'"):
        convention("slamkitt")


def sblimp() -> pl.DataFrame:
    """Phenomenon a: one item with voices right, wrong; b: three items right with one voice each."""
    good, bad = {"nll_correct": 1.0, "nll_wrong": 2.0}, {"nll_correct": 2.0, "nll_wrong": 1.0}
    rows = [{"group_id": "a", "phenomenon": "a"} | good, {"group_id": "a", "phenomenon": "a"} | bad]
    rows += [{"group_id": f"b{n}", "phenomenon": "b"} | good for n in range(3)]
    return table([{"task": "sblimp"} | row for row in rows])


def test_macro_and_micro_are_both_told_and_the_preset_chooses_the_headline() -> None:
    found = {(each.part, each.mean_over): each.score for each in score_table(sblimp(), PRESETS["official"])}
    assert found["", "phenomena"].accuracy == pytest.approx((0.5 + 1) / 2)
    assert found["", "items"].accuracy == pytest.approx((0.5 + 3) / 4) and found["", "items"].items == 4
    assert accuracies(sblimp())["sblimp"].accuracy == pytest.approx(0.75)
    assert accuracies(sblimp(), PRESETS["zerospeech"])["sblimp"].accuracy == pytest.approx(3.5 / 4)
    assert accuracies(sblimp(), PRESETS["slamkit"])["sblimp"].accuracy == pytest.approx(4 / 5)


def test_published_scores_say_their_whole_convention() -> None:
    """What is known agrees with the presets of the same code, and what nobody said is told as unknown."""
    taken = {(each.system, each.sblimp): each.taken for each in PUBLISHED}
    assert len(taken) == len(PUBLISHED)
    study, slam = taken["Cuervo & Marxer", 61.3], taken["SLAM", 61.1]
    for row, preset in ((study, PRESETS["official"]), (slam, PRESETS["slamkit"])):
        assert row.nll == preset.nll and (row.closing == "scored") == preset.terminal
    assert (
        study.sblimp_mean_over == "phenomena" and taken["Cuervo & Marxer", 58.36].sblimp_mean_over == "items"
    )
    assert taken["Pythia 6.9B", 80.0] == ReportedConvention(*5 * ["unknown"])
    assert taken["GSLM", 54.2].nll == "unknown" and taken["Spirit LM 7B", 58.3].ties == "unknown"
    assert all(value for each in taken.values() for value in astuple(each))


def test_speech_and_text_share_a_column() -> None:
    """The split that is scored everywhere needs no name; others, and new voices, keep theirs."""

    def names(*conditions: str) -> set[str]:
        rows = [{"nll_correct": 1.0, "nll_wrong": 2.0, "condition": condition} for condition in conditions]
        return set(accuracies(table(rows).with_columns(task=pl.lit("sblimp"))))

    assert names("dev") == names("") == names("seen") == {"sblimp"}
    assert names("test") == {"sblimp_test"} and names("dev", "test") == {"sblimp", "sblimp_test"}
    assert names("unseen") == {"sblimp_unseen"} and names("seen", "unseen") == {"sblimp", "sblimp_unseen"}


def test_items_that_are_numbered_anew_in_every_phenomenon_are_other_items() -> None:
    again = sblimp().with_columns(group_id=pl.col("group_id").str.replace("a", "b0"))
    for preset in PRESETS.values():
        assert accuracies(again, preset) == accuracies(sblimp(), preset)


def test_words_are_told_by_frequency_band_as_the_official_code_cuts_them() -> None:
    wins = {0.0: 0, 0.5: 1, 1.0: 1, 4.9: 0, 5.0: 1, 20.0: 1, 99.0: 0, 100.0: 1}
    rows = [{"frequency": f, "nll_correct": 2.0 - w, "nll_wrong": 1.5} for f, w in wins.items()]
    found = {each.part: each.score for each in score_table(table(rows), PRESETS["zerospeech"])}
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


def test_a_pair_without_a_score_is_named_and_averaged_by_nobody(model: Transformer) -> None:
    pairs = [
        Pair("t", "a", "a", np.array([1]), np.array([2])),
        Pair("t", "b", "b", np.array([], int), np.array([2])),
    ]
    scored = score_pairs(model, pairs, bos=EOS, dtype=torch.float32)
    assert unscored(scored, PRESETS["official"]) == ["t/b"] and accuracies(scored)["t"].items == 1
    with torch.no_grad():
        broken = Transformer(SHAPE)
        broken.norm.fill_(torch.nan)
    scored = score_pairs(broken, pairs, bos=EOS, dtype=torch.float32)
    assert unscored(scored, PRESETS["official"]) == ["t/a", "t/b"]


@pytest.mark.parametrize("nll", ["mean", "sum"])
def test_an_ending_of_nothing_has_no_score_after_its_prompt(model: Transformer, nll: str) -> None:
    """0 nats over 0 units are no number to compare: such a pair was lost before."""
    scored = score_pairs(
        model,
        [
            Pair("t", "a", "a", np.array([1, 2]), np.array([1, 2, 3]), prompt=2),
            Pair("t", "b", "b", np.array([1, 2, 4]), np.array([1, 2, 3]), prompt=2),
        ],
        bos=EOS,
        dtype=torch.float32,
    )
    by = convention("official", given="prompt", nll=nll)
    assert unscored(scored, by) == ["t/a"] and accuracies(scored, by)["t"].items == 1
    assert unscored(scored, convention("official", given="prompt", terminal=True)) == []
    assert unscored(scored, PRESETS["official"]) == []


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (
            Pair("t", "a", "a", np.array([1, 12]), np.array([2])),
            "t/a: the correct member has units from 1 to 12",
        ),
        (Pair("t", "a", "a", np.array([1, 2]), np.array([2, 2]), prompt=1), "begin with the same 1 units"),
    ],
)
def test_pairs_that_cannot_be_scored_are_named(model: Transformer, pair: Pair, said: str) -> None:
    with pytest.raises(UserError, match=said):
        score_pairs(model, [pair], bos=EOS, dtype=torch.float32)


def test_intervals_of_repeated_items_are_those_of_the_bootstrap() -> None:
    """Items of 1 to 4 voices that agree more than chance would have them."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(1, 5, 300)
    p = rng.beta(2, 1, 300)
    answers = Answers(rng.binomial(pairs, p).astype(float), pairs.astype(float))
    drawn = rng.integers(0, 300, (4000, 300))
    means = answers.right[drawn].sum(1) / answers.pairs[drawn].sum(1)
    found, wanted = interval(answers), np.quantile(means, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(wanted, abs=0.004)
    assert (
        found.high - found.low > 1.2 * 2 * 1.96 * (0.667 * 0.333 / pairs.sum()) ** 0.5
    )  # wider than of pairs


def test_two_models_are_compared_by_item() -> None:
    """Eight items of one pair: McNemar's exact test by hand, 5 against 1 of 6 that differ: p = 2 (1 + 6) / 64."""
    good, bad = {"nll_correct": 1.0, "nll_wrong": 2.0}, {"nll_correct": 2.0, "nll_wrong": 1.0}
    first, second = table([good] * 6 + [bad] * 2), table([bad] * 5 + [good, good, bad])
    (found,) = compare(first, second, PRESETS["official"])
    assert found.effect == pytest.approx(4 / 8) and found.p == pytest.approx(14 / 64) and found.items == 8
    (same,) = compare(first, first, PRESETS["official"])
    assert (same.effect, same.p) == (0.0, 1.0)
    with pytest.raises(UserError, match="no pair in common"):
        compare(first, second.with_columns(pair_id=pl.lit("q") + pl.col("pair_id")), PRESETS["official"])
    with pytest.raises(UserError, match="t/p0: is in one score table twice"):
        compare(pl.concat([first, first]), second, PRESETS["official"])


def test_a_comparison_over_phenomena_resamples_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effect and p against every pattern of signs, written anew."""
    rng = np.random.default_rng(1)
    rows = [{"phenomenon": "ab"[n % 3 == 0], "nll_wrong": 1.5} for n in range(11)]
    one, two = (table([row | {"nll_correct": float(rng.integers(1, 3))} for row in rows]) for _ in range(2))
    (found,) = compare(one, two, PRESETS["official"])
    d = (one["nll_correct"] < 1.5).cast(int).to_numpy() - (two["nll_correct"] < 1.5).cast(int).to_numpy()
    names = one["phenomenon"].to_numpy()
    share = np.array([1 / 2 / (names == name).sum() for name in names]) * d
    assert found.effect == pytest.approx(share.sum())
    sums = [abs(np.dot(signs, share)) for signs in itertools.product([-1, 1], repeat=11)]
    assert found.p == pytest.approx(np.mean(np.array(sums) >= abs(share.sum()) - 1e-12))
    monkeypatch.setattr("speechscale.evals.compare._EXACT", 0)
    assert compare(one, two, PRESETS["official"])[0].p == pytest.approx(found.p, abs=0.02)


def test_a_submission_has_a_line_a_recording(tmp_path: Path) -> None:
    rows = [{"nll_correct": 2.0, "nll_wrong": 3.5, "name_correct": "xYz", "name_wrong": "aBc"}]
    scores = table(rows).with_columns(task=pl.lit("sblimp"), condition=pl.lit("dev"))
    about = {"description": "d", "train_set": "t"}
    absent = write_submission(scores, ["t/x"], tmp_path / "s", Convention(nll="sum"), about)
    assert (tmp_path / "s" / "syntactic" / "dev.txt").read_text() == "aBc -3.5\nxYz -2.0\n"
    meta = yaml.safe_load((tmp_path / "s" / "meta.yaml").read_text())
    assert meta["benchmark_name"] == "sLM21" and meta["publication"].keys() >= {"authors", "institution"}
    params = yaml.safe_load((tmp_path / "s" / "params.yaml").read_text())
    assert params["syntactic"]["score_files_type"] == ".txt"
    assert absent == ["lexical/dev.txt", "lexical/test.txt", "syntactic/test.txt"]
    with pytest.raises(UserError, match="nothing to submit"):
        write_submission(table(rows), [], tmp_path / "s2", Convention(), about)
    with pytest.raises(UserError, match="1 pairs have no score, the first sblimp/dev/lone"):
        write_submission(scores, ["t/x", "sblimp/dev/lone"], tmp_path / "s2", Convention(), about)
