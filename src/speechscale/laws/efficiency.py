"""How efficiently one series turns compute into a score, against another."""

from __future__ import annotations

import numpy as np

from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.downstream import DownstreamFit
from speechscale.records.law_sections import Crossing, EfficiencyRatio, Missing

FARTHEST = 1e40  # FLOPs; a crossing beyond this is said to be never


def compare_efficiency(
    fast: str, slow: str, fitted: dict[str, dict[str, DownstreamFit]]
) -> dict[str, EfficiencyRatio | Missing]:
    """Ratio of exponents gamma(fast)/gamma(slow) for every score that both series have, in words too."""
    shared = [score for score in fitted[fast] if score in fitted[slow]]
    return {score: _ratio(fast, slow, fitted[fast][score], fitted[slow][score]) for score in shared}


def _ratio(fast: str, slow: str, one: DownstreamFit, other: DownstreamFit) -> EfficiencyRatio | Missing:
    low_high = percentile_interval(other.power.draws)
    if low_high is None or low_high[0] <= 0:
        return Missing(
            missing=f"the exponent of {slow} is not certainly above zero, so a ratio to it means nothing"
        )
    rows = min(len(one.power.draws), len(other.power.draws))
    ratio = one.power.gamma / other.power.gamma
    with np.errstate(divide="ignore", invalid="ignore"):
        # The other's backwards: both were drawn with the same seed, and their noise is not the same.
        ratios = one.power.draws[:rows] / other.power.draws[:rows][::-1]
    return EfficiencyRatio(
        ratio=ratio,
        interval95=percentile_interval(ratios),
        message=f"a tenfold step of compute for {fast} matches a 10^{ratio:.2f} step for {slow}: "
        "a rate per decade, not a fixed multiple",
        crossing=_crossing(fast, slow, one, other),
    )


def _crossing(fast: str, slow: str, one: DownstreamFit, other: DownstreamFit) -> Crossing | Missing:
    """The compute at which `slow` reaches the best score that `fast` has shown."""
    goal = float(one.data.score.max())
    if other.with_compute is None:
        return Missing(
            missing=f"the scores of {slow} do not rise above chance, so no crossing can be forecast"
        )
    if goal <= other.data.chance:
        return Missing(missing=f"the best score of {fast}, {goal:.3f}, is not above chance")
    with np.errstate(over="ignore"):
        flops = np.exp(np.minimum(other.with_compute.at(goal), 700.0))
    if flops[0] > FARTHEST:
        return Crossing(
            score=goal, flops=None, message=f"{slow} never reaches {goal:.3f}, the best score of {fast}"
        )
    draws = percentile_interval(np.where(flops[1:] > FARTHEST, np.inf, flops[1:]))
    return Crossing(
        score=goal,
        flops=float(flops[0]),
        interval95=draws,
        message=f"{slow} is expected to reach {goal:.3f}, the best score of {fast}, at {flops[0]:.3g} FLOPs"
        + ("" if draws else "; the upper end is open: some draws never reach it"),
    )
