"""The learning rate of the study: warm-up, half a cosine, a tenth at the end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from speechscale.train.schedule import learning_rate, warmup_steps


def test_warmup_is_one_percent_but_at_least_a_hundred_steps() -> None:
    assert warmup_steps(829_800) == 8298
    assert warmup_steps(5_050) == 100
    assert warmup_steps(300) == 30  # short runs: a tenth


@pytest.mark.parametrize("steps", [5_050, 5_850, 9_400, 10_100, 15_750, 66_050, 124_450, 829_800])
def test_no_published_run_is_short(steps: int) -> None:
    """The tenth never binds there, so max(100, 1 %) holds exactly."""
    assert warmup_steps(steps) == max(100, math.floor(0.01 * steps))


@pytest.mark.parametrize("preset", ["paper", "modern"])
def test_landmarks(preset: str) -> None:
    steps, peak = 5_050, 5e-4
    rates = [learning_rate(step, steps, peak, preset) for step in range(steps)]  # type: ignore[arg-type]
    assert rates[0] == (0.0 if preset == "paper" else peak / 100)
    assert max(rates) == pytest.approx(peak)
    assert rates[100] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(5e-5)
    assert rates[100 + (steps - 101) // 2] == pytest.approx((peak + 5e-5) / 2, rel=1e-3)
    assert all(later <= earlier for earlier, later in pairwise(rates[100:]))
