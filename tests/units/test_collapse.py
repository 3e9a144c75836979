"""Collapsing is run-length encoding, and EOS is appended with duration 0."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechscale.units.collapse import append_eos, collapse


@given(st.lists(st.integers(0, 5)))
def test_collapse_equals_itertools_groupby(units: list[int]) -> None:
    kept, durations = collapse(np.array(units, dtype=np.int16))
    assert list(zip(kept.tolist(), durations.tolist(), strict=True)) == [
        (unit, len(list(run))) for unit, run in groupby(units)
    ]
    assert np.repeat(kept, durations).tolist() == units


def test_eos_is_appended_with_duration_zero() -> None:
    units, durations = append_eos(np.array([3, 4]), np.array([2, 1]), 9)
    assert units.tolist() == [3, 4, 9] and units.dtype == np.int16
    assert durations.tolist() == [2, 1, 0] and durations.dtype == np.int32
