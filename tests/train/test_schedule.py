"""Learning-rate schedules: the study's cosine, and warmup-stable-decay."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from speechscale.train.schedule import LearningRateSchedule, warmup_steps


def test_warmup_is_one_percent_but_at_least_a_hundred_steps() -> None:
    assert warmup_steps(829_800) == 8298
    assert warmup_steps(5_050) == 100
    assert warmup_steps(300) == 30  # short runs: a tenth


@pytest.mark.parametrize("steps", [5_050, 5_850, 9_400, 10_100, 15_750, 66_050, 124_450, 829_800])
def test_published_runs_have_the_warmup_of_the_paper(steps: int) -> None:
    """The tenth never binds there, so max(100, 1 %) holds exactly."""
    assert warmup_steps(steps) == max(100, math.floor(0.01 * steps))


@pytest.mark.parametrize("preset", ["paper", "modern"])
def test_cosine_at_start_peak_middle_and_end(preset: str) -> None:
    steps, peak = 5_050, 5e-4
    schedule = LearningRateSchedule(steps, peak, preset)  # type: ignore[arg-type]
    rates = [schedule.at(step) for step in range(steps)]
    assert rates[0] == (0.0 if preset == "paper" else peak / 100)
    assert max(rates) == pytest.approx(peak)
    assert rates[100] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(5e-5)
    assert rates[100 + (steps - 101) // 2] == pytest.approx((peak + 5e-5) / 2, rel=1e-3)
    assert all(later <= earlier for earlier, later in pairwise(rates[100:]))


def test_wsd_warms_up_stays_and_decays_by_a_square_root() -> None:
    steps, peak = 1000, 4e-3
    schedule = LearningRateSchedule(steps, peak, "modern", "wsd", 50, 0.2)
    rates = [schedule.at(step) for step in range(steps)]
    assert rates[0] == pytest.approx(peak / 50) and rates[49] == pytest.approx(peak)
    assert set(rates[49:801]) == {peak}
    assert rates[850] == pytest.approx(peak * 0.5)  # a quarter of the decay: 1 - sqrt(1/4)
    assert rates[-1] == pytest.approx(peak * (1 - (199 / 200) ** 0.5))
    assert all(later < earlier for earlier, later in pairwise(rates[800:]))


def test_wsd_before_its_decay_does_not_depend_on_the_length_of_the_run() -> None:
    short = LearningRateSchedule(200, 1e-3, "paper", "wsd", 20, 0.2)
    long = LearningRateSchedule(5000, 1e-3, "paper", "wsd", 20, 0.1)
    assert all(short.at(step) == long.at(step) for step in range(160))


def test_final_share_sets_the_last_rate_and_no_earlier_one() -> None:
    peak = 4e-3
    cosine = LearningRateSchedule(1000, peak, "modern", "cosine", 50, final=0.0)
    assert cosine.at(999) == pytest.approx(0, abs=1e-12)
    wsd = LearningRateSchedule(1000, peak, "modern", "wsd", 50)
    assert replace(wsd, final=0.3).at(850) == pytest.approx(peak * 0.65)
    assert replace(wsd, final=0.1).at(999) == pytest.approx(peak * (0.1 + 0.9 * (1 - (199 / 200) ** 0.5)))
    assert all(replace(wsd, final=0.5).at(step) == wsd.at(step) for step in range(800))
