"""Collapsing keeps the order of changes and nothing else."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechscale.units.collapse import close, collapse


@given(st.lists(st.integers(0, 5)))
def test_collapse_is_groupby(units: list[int]) -> None:
    assert collapse(np.array(units, dtype=np.int16)).tolist() == [unit for unit, _ in groupby(units)]


def test_close_appends_eos() -> None:
    closed = close(np.array([3, 4]), 9)
    assert closed.tolist() == [3, 4, 9] and closed.dtype == np.int16
