"""The sections of a law file about scores: pooled curves with their backtests, lines, power laws and emergence."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from speechscale.records.law_sections import Interval, Missing, Section

T = TypeVar("T")


class LinearScoreLaw(Section):
    """Q = slope L + intercept."""

    slope: float
    intercept: float
    r2: float
    slope_se: float | None


class ScoreCurveParams(Section, Generic[T]):
    """One value for each parameter of a rising curve; the midpoint is a loss or a compute."""

    midpoint: T
    steepness: T
    ceiling: T


class ScoreMemberLaw(Section):
    """One curve of the pool; eta is steepness (midpoint - L), or steepness ln(C / midpoint)."""

    formula: str
    params: ScoreCurveParams[float]
    interval95: ScoreCurveParams[Interval | None]
    dispersion: float  # residual over binomial variance
    noise: float  # standard deviation of arcsin(sqrt(score)) of a new run around the curve
    weight: float  # share of the pooled draws; 0 where the fit did not converge
    converged: bool
    draws: ScoreCurveParams[list[float]]


class ScoreForecastErrors(Section):
    """How forecasts of dearer runs compare with their scores, which are fractions of right answers."""

    mean_absolute: float
    bias: float  # mean of predicted - observed
    inside95: float | None = None  # of new scores in intervals that are not widened; members have errors only


class ScoreBacktestSplit(Section):
    """One split: the scores of runs with C <= C_max/factor are fitted, those of the others forecast."""

    factor: float
    fitted: int
    forecast: int
    distance: float  # largest compute of a forecast run over that of the dearest fitted run
    pool: ScoreForecastErrors
    members: dict[str, ScoreForecastErrors]


class ScoreBacktest(Section):
    """Every split that the runs allow."""

    splits: list[ScoreBacktestSplit]
    message: str


class ScoreCurveLaw(Section):
    """The pooled curves of a score against loss or compute, and how their forecasts did on their own runs."""

    against: Literal["loss", "compute"]
    floor: float
    items: float  # of a new score, for its interval
    members: dict[str, ScoreMemberLaw]
    scale: float  # factor by which intervals of forecasts are widened
    backtest: ScoreBacktest | Missing


class OutOfSample(Section):
    """Root mean square error of each form, fitted to the cheap runs, on the most expensive third."""

    rmse: dict[str, float]
    best: str


class ScoreEmergence(Section):
    """The compute from which a score is expected above chance; None where the law cannot say."""

    margin: float
    flops: float | None
    interval95: Interval | None
    message: str


class ScoreLaw(Section):
    """Laws of one score."""

    runs: int
    chance: float
    gamma: float  # of Q = coefficient C^gamma
    coefficient: float | None
    interval95: Interval | None  # of gamma
    linear: LinearScoreLaw | Missing
    by_loss: ScoreCurveLaw | Missing  # of the chained forecasts
    by_compute: ScoreCurveLaw | Missing
    out_of_sample: OutOfSample | Missing
    emergence: ScoreEmergence
