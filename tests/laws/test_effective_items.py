"""Scores whose items share clusters: fewer effective items widen the margin of emergence."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from speechscale.laws import fit_table
from speechscale.records.score_columns import independent_items


def ladder(**columns: object) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    params = np.repeat([1e6, 4e6, 1.6e7, 6.4e7], 5)
    tokens = params * np.tile([2, 5, 10, 20, 50], 4)
    loss = (1.6 + 30 * params**-0.27 + 60 * tokens**-0.26) * np.exp(0.002 * rng.normal(size=20))
    score = 0.5 + 0.45 / (1 + np.exp(3 * (loss - 2.6))) + 0.01 * rng.normal(size=20)
    return pl.DataFrame({"params": params, "tokens": tokens, "loss": loss, "sblimp": score} | columns)


def margin(table: pl.DataFrame) -> float:
    (series,) = fit_table(table, bootstrap=100).series.values()
    return float(series.downstream["sblimp"].emergence.margin)


def test_emergence_takes_the_effective_number() -> None:
    nominal = margin(ladder(sblimp_items=[1000] * 20))
    clustered = margin(ladder(sblimp_items=[1000] * 20, sblimp_effective_items=[100.0] * 20))
    assert clustered == pytest.approx(nominal * 10**0.5, rel=0.02)
    assert clustered == pytest.approx(margin(ladder(sblimp_items=[100] * 20)))


def test_effective_number_counts_where_it_is_known_and_smaller() -> None:
    table = pl.DataFrame(
        {
            "s": [0.5] * 4,
            "s_items": [100.0, 100.0, 100.0, None],
            "s_effective_items": [40.0, 250.0, None, None],
        }
    )
    assert independent_items(table, "s").to_list() == [40.0, 100.0, 100.0, None]
    assert independent_items(table.drop("s_effective_items"), "s").to_list() == [100.0, 100.0, 100.0, None]
    assert independent_items(table.select("s"), "s").to_list() == [None] * 4
