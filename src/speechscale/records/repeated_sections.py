"""The section of a law file for repeated data: the decay rates by two fits, their pool and its backtests."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from speechscale.records.forecast_sections import BacktestSplitResult
from speechscale.records.law_sections import LossParams, Missing, OpenInterval, Section

T = TypeVar("T")


class Rates(Section, Generic[T]):
    """One value for R_D* and one for R_N*, the decay rates of repeated data."""

    R_D: T
    R_N: T


class RateProfile(Section):
    """Least objective at each value `at` of one rate."""

    at: list[float]
    R_D: list[float]
    R_N: list[float]


class RepeatedRates(Section):
    """The decay rates with intervals from their profiles."""

    params: Rates[float]
    interval95: Rates[OpenInterval]
    identified: Rates[bool]
    objective: float
    near_equal_minima: int
    profile: RateProfile


class JointParams(Rates[T], Generic[T]):
    """One value for each of the seven parameters of a joint fit; ln A and ln B, which may be large."""

    log_A: T
    log_B: T
    E: T
    alpha: T
    beta: T


class JointRepeatedLaw(RepeatedRates):
    """All seven parameters fitted together."""

    single_epoch: LossParams[float]
    draws: JointParams[list[float]]


class RepeatedSplitResult(BacktestSplitResult):
    """One split: runs with at most 1/factor of the compute, or of the unique tokens, are fitted.

    `distance` of a run is the ratio of that quantity to its largest value among the fitted runs.
    """

    by: Literal["compute", "unique_tokens"]


class RepeatedBacktest(Section):
    """Every split that the runs allow."""

    splits: list[RepeatedSplitResult]
    rms: dict[str, float]  # error of ln L by part, every split alike
    message: str


class RepeatedPool(Section):
    """What forecasts of repeated data are made of: parts in equal shares, and how they did on the runs themselves."""

    weights: dict[str, float]  # of two_stages and joint
    scale: float  # factor by which intervals are widened
    noise: float  # standard deviation of ln L of one multi-epoch run around the joint fit
    epochs: float  # the most epochs of a fitted run
    message: str  # which parts, and why
    backtest: RepeatedBacktest | Missing


class RepeatedLaw(RepeatedRates):
    """The rates under the fixed single-epoch law, beside them the joint fit, and the pool of the two."""

    draws: Rates[list[float]]
    note: str
    joint: JointRepeatedLaw
    pool: RepeatedPool
    runs: list[str]
