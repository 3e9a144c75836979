"""Efficiency of series: the ratio of the exponents with which two series turn compute into a score."""

from __future__ import annotations

import numpy as np

from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.downstream import DownstreamFit
from speechscale.records.law_sections import Crossing, EfficiencyRatio, Missing

MAX_FLOPS = 1e40  # a crossing beyond this counts as never reached


def compare_efficiency(
    fast: str, slow: str, fitted: dict[str, dict[str, DownstreamFit]]
) -> dict[str, EfficiencyRatio | Missing]:
    """Ratio of exponents gamma(fast)/gamma(slow) for every score that both series have.

    Args:
        fast: the series of the numerator.
        slow: the series of the denominator.
        fitted: downstream fits by series and score.
    """
    shared = [score for score in fitted[fast] if score in fitted[slow]]
    return {score: _ratio(fast, slow, fitted[fast][score], fitted[slow][score]) for score in shared}


def _ratio(fast: str, slow: str, one: DownstreamFit, other: DownstreamFit) -> EfficiencyRatio | Missing:
    slow_interval = percentile_interval(other.power.draws)
    if slow_interval is None or slow_interval[0] <= 0:
        return Missing(
            missing=f"the exponent of {slow} is not certainly above zero, so a ratio to it has no meaning"
        )
    rows = min(len(one.power.draws), len(other.power.draws))
    ratio = one.power.gamma / other.power.gamma
    with np.errstate(divide="ignore", invalid="ignore"):
        # The other draws in reverse order: both series were drawn with the same seed, but their noise is independent.
        ratios = one.power.draws[:rows] / other.power.draws[:rows][::-1]
    return EfficiencyRatio(
        ratio=ratio,
        interval95=percentile_interval(ratios),
        message=f"a tenfold step of compute for {fast} matches a 10^{ratio:.2f} step for {slow}: "
        "a rate per decade, not a fixed multiple",
        crossing=_crossing(fast, slow, one, other),
    )


def _crossing(fast: str, slow: str, one: DownstreamFit, other: DownstreamFit) -> Crossing | Missing:
    """The compute at which `slow` reaches the best score of the runs of `fast`."""
    goal = float(one.data.score.max())
    if other.by_compute is None:
        return Missing(
            missing=f"the scores of {slow} do not rise above chance, so no crossing can be forecast"
        )
    if goal <= other.data.chance:
        return Missing(missing=f"the best score of {fast}, {goal:.3f}, is not above chance")
    curves = other.by_compute.curves
    with np.errstate(over="ignore"):
        flops, drawn = (np.exp(np.minimum(x, 700.0)) for x in (curves.centre_at(goal), curves.drawn_at(goal)))
    if flops > MAX_FLOPS:
        return Crossing(
            score=goal, flops=None, message=f"{slow} never reaches {goal:.3f}, the best score of {fast}"
        )
    draws = percentile_interval(np.where(drawn > MAX_FLOPS, np.inf, drawn))
    return Crossing(
        score=goal,
        flops=float(flops),
        interval95=draws,
        message=f"{slow} is expected to reach {goal:.3f}, the best score of {fast}, at {flops:.3g} FLOPs"
        + ("" if draws else "; the upper end is open: some draws never reach it"),
    )
