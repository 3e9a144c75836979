"""Score tables with chosen likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from speechscale.records.scores import COLUMNS


def score_table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """One row per mapping; task "t", one item per row, and one unit per member unless the mapping says otherwise."""
    blank = {name: "" if kind == pl.String else None for name, kind in COLUMNS.items()}
    default = blank | {
        "task": "t",
        "units_correct": 1,
        "units_wrong": 1,
        "nll_end_correct": 0.0,
        "nll_end_wrong": 0.0,
    }
    ids = [{"group_id": f"g{n}", "pair_id": f"p{n}"} for n in range(len(rows))]
    return pl.DataFrame([default | i | dict(row) for i, row in zip(ids, rows, strict=True)], schema=COLUMNS)
