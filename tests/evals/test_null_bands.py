"""Bands of the scores of untrained models."""

from __future__ import annotations

import pytest

from speechscale.evals.null_bands import null_bands
from speechscale.records.scores import TaskAccuracy


def accuracy(value: float, part: str = "") -> TaskAccuracy:
    return TaskAccuracy(
        task="t",
        condition="seen",
        part=part,
        mean_over="items",
        accuracy=value,
        low=0,
        high=1,
        items=9,
    )


def test_band_of_three_models_is_that_of_a_hand_calculation() -> None:
    band, extreme = null_bands([[accuracy(value), accuracy(1.0, "p")] for value in (0.4, 0.5, 0.6)])
    # t with 2 degrees of freedom: 4.302653; sd 0.1; sqrt(1 + 1/3) = 1.154701: 0.4968 to either side.
    assert (band.mean, band.sd) == pytest.approx((0.5, 0.1))
    assert (band.low, band.high) == pytest.approx((0.0031721, 0.9968279), abs=1e-6)
    assert band.contains(0.5) and not band.contains(0.999)
    assert (extreme.part, extreme.low, extreme.high) == ("p", 1.0, 1.0)


def test_band_stays_within_zero_and_one() -> None:
    (band,) = null_bands([[accuracy(0.1)], [accuracy(0.9)]])
    assert (band.low, band.high) == (0.0, 1.0)
