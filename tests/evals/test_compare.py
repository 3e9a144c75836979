"""Paired differences: McNemar's exact test by hand, and the permutation test against all patterns of signs."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from score_tables import score_table

from speechscale.errors import UserError
from speechscale.evals.compare import paired_differences
from speechscale.evals.conventions import PRESETS


def test_one_pair_per_item_is_mcnemars_exact_test() -> None:
    """Eight items of one pair: McNemar's exact test by hand, 5 against 1 of 6 that differ: p = 2 (1 + 6) / 64."""
    good, bad = {"nll_correct": 1.0, "nll_wrong": 2.0}, {"nll_correct": 2.0, "nll_wrong": 1.0}
    first, second = score_table([good] * 6 + [bad] * 2), score_table([bad] * 5 + [good, good, bad])
    (found,) = paired_differences(first, second, PRESETS["official"])
    assert found.difference == pytest.approx(4 / 8) and found.p == pytest.approx(14 / 64) and found.items == 8
    (same,) = paired_differences(first, first, PRESETS["official"])
    assert (same.difference, same.p) == (0.0, 1.0)
    with pytest.raises(UserError, match="no pair in common"):
        paired_differences(
            first, second.with_columns(pair_id=pl.lit("q") + pl.col("pair_id")), PRESETS["official"]
        )
    with pytest.raises(UserError, match="t/p0: is in one score table twice"):
        paired_differences(pl.concat([first, first]), second, PRESETS["official"])


def test_p_value_over_phenomena_enumerates_all_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effect and p against every pattern of signs, written anew."""
    rng = np.random.default_rng(1)
    rows = [{"phenomenon": "ab"[n % 3 == 0], "nll_wrong": 1.5} for n in range(11)]
    one, two = (
        score_table([row | {"nll_correct": float(rng.integers(1, 3))} for row in rows]) for _ in range(2)
    )
    (found,) = paired_differences(one, two, PRESETS["official"])
    d = (one["nll_correct"] < 1.5).cast(int).to_numpy() - (two["nll_correct"] < 1.5).cast(int).to_numpy()
    names = one["phenomenon"].to_numpy()
    share = np.array([1 / 2 / (names == name).sum() for name in names]) * d
    assert found.difference == pytest.approx(share.sum())
    sums = [abs(np.dot(signs, share)) for signs in itertools.product([-1, 1], repeat=11)]
    assert found.p == pytest.approx(np.mean(np.array(sums) >= abs(share.sum()) - 1e-12))
    monkeypatch.setattr("speechscale.evals.compare._MOST_EXACT_ITEMS", 0)
    assert paired_differences(one, two, PRESETS["official"])[0].p == pytest.approx(found.p, abs=0.02)


def test_items_of_one_contrast_are_exchanged_together() -> None:
    """Twenty items of five contrasts, of which four favour the first model: p = 2 (1 + 5) / 32 of a sign test."""
    better = [1, 1, 1, 1, 0]
    rows = [{"contrast": f"c{n}", "nll_wrong": 1.5} for n in range(5) for _ in range(4)]
    won = [better[n // 4] for n in range(20)]
    one = score_table([row | {"nll_correct": 1.0 if w else 2.0} for row, w in zip(rows, won, strict=True)])
    two = score_table([row | {"nll_correct": 2.0 if w else 1.0} for row, w in zip(rows, won, strict=True)])
    (found,) = paired_differences(one, two, PRESETS["official"])
    (plain,) = paired_differences(
        *(table.with_columns(contrast=pl.lit("")) for table in (one, two)), PRESETS["official"]
    )
    assert found.difference == plain.difference == pytest.approx(0.6)
    assert found.p == pytest.approx(12 / 32) and plain.p < 0.02
    assert found.low < 0 < plain.low
    alone = [table.with_columns(contrast=pl.lit("c")) for table in (one, two)]
    (single,) = paired_differences(*alone, PRESETS["official"])
    assert (single.low, single.high, single.p) == (-1.0, 1.0, 1.0)
