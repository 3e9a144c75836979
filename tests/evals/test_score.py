"""Per-item scores against likelihoods computed one prediction at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_transformer

from speechscale.errors import UserError
from speechscale.evals import score
from speechscale.evals.accuracy import headline_scores
from speechscale.evals.conventions import PRESETS, convention_from_preset, unscored_pairs, with_correct
from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import Pair
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.scores import SpecialTokens

SHAPE = ModelShape(layers=2, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
EOS = 10
AROUND = SpecialTokens(before_first=EOS, closing=EOS)
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
@given(prompt=UNITS, correct=UNITS, wrong=UNITS, min_shared=st.sampled_from([0.0, 1 / 8, 9.0]))
def test_every_section_sums_single_predictions(
    model: Transformer, prompt: list[int], correct: list[int], wrong: list[int], min_shared: float
) -> None:
    """Whether the pair is read as one row with a shared prefix, or as two rows."""
    pair = Pair("t", "a", "a", np.array(prompt + correct), np.array(prompt + wrong), prompt=len(prompt))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "_MIN_SHARED_FRACTION", min_shared)
        row = score_pairs(model, [pair], AROUND, dtype=torch.float32).row(0, named=True)
    for member, ending in (("correct", correct), ("wrong", wrong)):
        by_hand = nlls(model, [EOS, *prompt, *ending, EOS])
        assert row[f"nll_{member}"] == pytest.approx(sum(by_hand[:-1]), rel=1e-4)
        assert row[f"nll_end_{member}"] == pytest.approx(by_hand[-1], rel=1e-4)
        assert row[f"units_{member}"] == len(prompt + ending)
    assert row["nll_prompt"] == pytest.approx(sum(nlls(model, [EOS, *prompt])), rel=1e-4)
    assert row["units_prompt"] == len(prompt)


def test_bos_is_read_and_closing_eos_is_not_in_the_sum() -> None:
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


def test_without_bos_the_first_unit_is_not_scored(model: Transformer) -> None:
    pair = Pair("t", "a", "a", np.array([1, 2, 3]), np.array([1, 2, 4, 5]), prompt=2)
    row = score_pairs(model, [pair], SpecialTokens(before_first=None, closing=EOS), dtype=torch.float32).row(
        0, named=True
    )
    assert row["nll_wrong"] == pytest.approx(sum(nlls(model, [1, 2, 4, 5])), rel=1e-4)
    assert (row["units_correct"], row["units_wrong"], row["units_prompt"]) == (2, 3, 1)


def test_units_are_shifted_by_the_token_of_unit_0(model: Transformer) -> None:
    plain = Pair("t", "a", "a", np.array([3, 4, 5]), np.array([3, 6]))
    shifted = Pair("t", "a", "a", np.array([1, 2, 3]), np.array([1, 4]))
    first = score_pairs(model, [plain], SpecialTokens(before_first=1, closing=1), dtype=torch.float32)
    assert first.equals(
        score_pairs(model, [shifted], SpecialTokens(before_first=1, closing=1, unit_0=2), dtype=torch.float32)
    )


def test_equal_members_tie_in_any_batch(model: Transformer) -> None:
    """Longer than the context, so that no prefix is shared; padding and rounding depend on the rest of the batch."""
    rng = np.random.default_rng(0)
    both = [rng.integers(0, 10, length) for length in rng.integers(33, 90, 100)]
    pairs = [Pair("t", str(n), str(n), units, units.copy(), prompt=30) for n, units in enumerate(both)]
    scored = score_pairs(model, pairs, AROUND, dtype=torch.float32)
    for convention in (
        PRESETS["official"],
        convention_from_preset("official", given="prompt", terminal=True),
    ):
        assert with_correct(scored, convention)["correct"].to_list() == [0.5] * 100
    tokens = [EOS, *pairs[0].correct[:31].tolist()]
    short = Pair("t", "a", "a", pairs[0].correct[:31], pairs[0].correct[:31])
    row = score_pairs(model, [short], AROUND, dtype=torch.float32).row(0, named=True)
    assert row["nll_correct"] == row["nll_wrong"] == pytest.approx(sum(nlls(model, tokens)), rel=1e-4)


def test_pair_without_a_score_is_named_and_in_no_average(model: Transformer) -> None:
    pairs = [
        Pair("t", "a", "a", np.array([1]), np.array([2])),
        Pair("t", "b", "b", np.array([], int), np.array([2])),
    ]
    scored = score_pairs(model, pairs, AROUND, dtype=torch.float32)
    assert unscored_pairs(scored, PRESETS["official"]) == ["t/b"] and headline_scores(scored)["t"].items == 1
    with torch.no_grad():
        broken = Transformer(SHAPE)
        broken.norm.fill_(torch.nan)
    scored = score_pairs(broken, pairs, AROUND, dtype=torch.float32)
    assert unscored_pairs(scored, PRESETS["official"]) == ["t/a", "t/b"]


@pytest.mark.parametrize("nll", ["mean", "sum"])
def test_empty_ending_has_no_conditional_score(model: Transformer, nll: str) -> None:
    """0 nats over 0 units cannot be compared."""
    scored = score_pairs(
        model,
        [
            Pair("t", "a", "a", np.array([1, 2]), np.array([1, 2, 3]), prompt=2),
            Pair("t", "b", "b", np.array([1, 2, 4]), np.array([1, 2, 3]), prompt=2),
        ],
        AROUND,
        dtype=torch.float32,
    )
    convention = convention_from_preset("official", given="prompt", nll=nll)
    assert (
        unscored_pairs(scored, convention) == ["t/a"] and headline_scores(scored, convention)["t"].items == 1
    )
    assert unscored_pairs(scored, convention_from_preset("official", given="prompt", terminal=True)) == []
    assert unscored_pairs(scored, PRESETS["official"]) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (
            Pair("t", "a", "a", np.array([1, 12]), np.array([2])),
            "t/a: the correct member has units from 1 to 12",
        ),
        (Pair("t", "a", "a", np.array([1, 2]), np.array([2, 2]), prompt=1), "begin with the same 1 units"),
    ],
)
def test_pairs_that_cannot_be_scored_are_named(model: Transformer, pair: Pair, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_pairs(model, [pair], AROUND, dtype=torch.float32)
