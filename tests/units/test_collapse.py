"""Collapsing keeps the order of changes and nothing else."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechscale.units.collapse import close, collapse


@given(st.lists(st.integers(0, 5)))
def test_collapse_is_groupby(units: list[int]) -> None:
    kept, durations = collapse(np.array(units, dtype=np.int16))
    assert list(zip(kept.tolist(), durations.tolist(), strict=True)) == [
        (unit, len(list(run))) for unit, run in groupby(units)
    ]
    assert np.repeat(kept, durations).tolist() == units


def test_close_appends_an_eos_that_lasts_no_time() -> None:
    units, durations = close(np.array([3, 4]), np.array([2, 1]), 9)
    assert units.tolist() == [3, 4, 9] and units.dtype == np.int16
    assert durations.tolist() == [2, 1, 0] and durations.dtype == np.int32
