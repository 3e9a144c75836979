"""The forecast section of a law file: the family of laws that is pooled, and its backtests."""

from __future__ import annotations

from typing import Generic, TypeVar

from speechscale.records.law_sections import Convergence, Interval, Missing, Section

T = TypeVar("T")


class FamilyParams(Section, Generic[T]):
    """One value for each parameter of L = E + (A/N^alpha + B N^c/D^beta)^gamma; ln A and ln B, which may be large."""

    log_A: T
    log_B: T
    E: T
    alpha: T
    beta: T
    gamma: T
    c: T


class MemberLaw(Section):
    """One law of the family, fitted to single-epoch runs with weak priors."""

    formula: str
    params: FamilyParams[float]
    interval95: FamilyParams[Interval | None]
    noise: float  # standard deviation of ln L of one run around the law
    weight: float  # share of the pooled draws; 0 where it is left out
    left_out: str | None = None  # why
    converged: bool
    convergence: Convergence
    draws: FamilyParams[list[float]]


class ForecastErrors(Section):
    """How forecasts of dearer runs compare with their losses.

    The shares are of new runs inside intervals that are widened by what backtests within the cheaper runs found;
    members have their errors only.
    """

    rms: float  # of ln predicted - ln observed
    bias: float
    inside50: float | None = None
    inside80: float | None = None
    inside95: float | None = None


class BacktestedRuns(Section):
    """Dearer runs: compute over the dearest fitted run's, observed loss, forecast and 95 % interval of a new run."""

    run: list[str]
    distance: list[float]
    loss: list[float]
    forecast: list[float]
    low: list[float]
    high: list[float]


class BacktestSplitResult(Section):
    """One split: runs with C <= C_max/factor are fitted, the others forecast."""

    factor: float
    fitted: int
    forecast: int
    scale: float  # by which the intervals were widened
    pool: ForecastErrors
    members: dict[str, ForecastErrors]
    runs: BacktestedRuns


class Backtest(Section):
    """Every split that the runs allow."""

    splits: list[BacktestSplitResult]
    message: str


class ForecastLaw(Section):
    """The family of laws whose draws are pooled for forecasts, and how its forecasts did on its own runs."""

    members: dict[str, MemberLaw]
    scale: float  # factor by which intervals of forecasts are widened
    backtest: Backtest | Missing
