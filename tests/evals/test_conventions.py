"""Conventions: the answer to a pair by each switch, against likelihoods chosen by hand."""

from __future__ import annotations

import pytest
from score_tables import score_table

from speechscale.errors import UserError
from speechscale.evals.conventions import PRESETS, convention_from_preset, with_correct


def answer(row: dict, **switches: object) -> float:
    return with_correct(score_table([row]), convention_from_preset("official", **switches))["correct"][0]


def test_each_switch_changes_the_answer() -> None:
    longer = {"nll_correct": 4.0, "units_correct": 4, "nll_wrong": 2.0, "units_wrong": 1}
    assert answer(longer) == 1.0 and answer(longer, nll="sum") == 0.0
    closing = longer | {"nll_end_correct": 16.0}
    assert answer(closing) == 1.0 and answer(closing, terminal=True) == 0.0
    tie = {"nll_correct": 1.0, "nll_wrong": 1.0}
    assert answer(tie) == 0.5 and answer(tie, ties="lost") == 0.0
    assert answer(tie | {"task": "tstorycloze"}) == 0.0
    assert answer(tie | {"task": "tstorycloze"}, ties="half") == 0.5
    assert answer(tie | {"task": "tStoryCloze"}) == 0.0
    story = {"nll_correct": 9.0, "units_correct": 4, "nll_wrong": 10.0, "units_wrong": 5}
    story |= {"nll_prompt": 6.0, "units_prompt": 3}
    assert answer(story) == 0.0  # 9/4 > 10/5
    assert (
        answer(story, given="prompt") == 0.0 and answer(story, given="prompt", nll="sum") == 1.0
    )  # 3 > 4/2, 3 < 4
    with pytest.raises(UserError, match="t/p0: where its prompt ends is not known"):
        answer(tie, given="prompt")


def test_presets_match_published_evaluations() -> None:
    official, zerospeech, slamkit = (PRESETS[name] for name in ("official", "zerospeech", "slamkit"))
    assert (official.nll, official.terminal, official.ties, official.headline) == (
        "mean",
        False,
        "by-task",
        "macro",
    )
    assert (zerospeech.ties, zerospeech.voices, zerospeech.headline) == ("half", "mean", "micro")
    assert (slamkit.nll, slamkit.terminal, slamkit.voices) == ("mean", True, "pairs")
    assert convention_from_preset("official", nll="mean") == official
    assert convention_from_preset("official", nll="sum").preset == "official, changed"
    with pytest.raises(UserError, match="did you mean 'slamkit'"):
        convention_from_preset("slamkitt")
