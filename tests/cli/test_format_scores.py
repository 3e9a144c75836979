"""Printed scores: the effective number of items stands beside the nominal one where it is known."""

from __future__ import annotations

import polars as pl
import pytest

from speechscale.cli.format_scores import evaluation_lines
from speechscale.jobs.evaluate import Evaluation
from speechscale.records.scores import COLUMNS, Convention, ScoresFile, SpecialTokens, TaskAccuracy


@pytest.mark.parametrize(
    ("effective", "ending"), [(41.7, "150 items (42 effective), chance 0.5"), (None, "150 items, chance 0.5")]
)
def test_effective_items_are_printed(effective: float | None, ending: str) -> None:
    accuracy = TaskAccuracy(
        task="t",
        condition="",
        part="",
        mean_over="items",
        accuracy=0.5,
        low=0.4,
        high=0.6,
        items=150,
        effective_items=effective,
    )
    file = ScoresFile(
        model="m",
        convention=Convention(),
        tokens=SpecialTokens(before_first=1, closing=1),
        pairs=150,
        scores=(accuracy,),
    )
    evaluation = Evaluation(model="m", table=pl.DataFrame(schema=COLUMNS), file=file)
    assert list(evaluation_lines(evaluation))[-1].endswith(ending)
