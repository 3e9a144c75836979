"""The sections of a law file: one typed record for each law, or the reason why it is missing."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

EnvelopeDefinition = Literal["budgets", "records", "interpolated"]
Interval = tuple[float, float]  # central 95 %
OpenInterval = tuple[float | None, float | None]  # None: the profile does not close at this end
T = TypeVar("T")


class Section(BaseModel):
    """A part of a law file; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Missing(Section):
    """A law that could not be fitted, and why."""

    missing: str


class DroppedRun(Section):
    """A run that the single-epoch law does not use."""

    run: str
    reason: str


class Rows(Section):
    """How many runs the single-epoch law uses, and which it does not."""

    used: int
    dropped: list[DroppedRun]


class Check(BaseModel):
    """One thing a reader of the law must know, in a sentence; its numbers are further fields."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    check: str
    level: Literal["warning", "note"]
    message: str

    @classmethod
    def of(
        cls, check: str, message: str, level: Literal["warning", "note"] = "warning", **values: JsonValue
    ) -> Check:
        """A check from its name, its sentence, and its numbers by name."""
        return cls.model_validate({"check": check, "level": level, "message": message, **values})


class LossParams(Section, Generic[T]):
    """One value for each parameter of L = E + A/N^alpha + B/D^beta."""

    A: T
    B: T
    E: T
    alpha: T
    beta: T


class Split(Section, Generic[T]):
    """One value for each parameter of the best split N = G (C/6)^a, D = (C/6)^b / G."""

    a: T
    b: T
    G: T


class Correlation(Section):
    """Correlation of each coefficient with its exponent over the draws; None where one of them is fixed."""

    log_a_alpha: float | None = Field(validation_alias="ln A, alpha", serialization_alias="ln A, alpha")
    log_b_beta: float | None = Field(validation_alias="ln B, beta", serialization_alias="ln B, beta")


class Convergence(Section):
    """How the optimum was reached."""

    starts: int
    agreeing: int  # starts that ended at the least objective
    stalled: int  # starts given up far above it, mostly because a term of the law had vanished at the start
    gradient: float  # largest scaled gradient at the optimum


class Allocation(Section):
    """The best split of compute; None where an exponent is not above zero."""

    a: float | None
    b: float | None
    G: float | None
    interval95: Split[Interval | None]


class FittedRange(Section):
    """Smallest and largest value among the fitted runs."""

    params: Interval
    tokens: Interval
    flops: Interval
    loss: Interval


class Residuals(Section):
    """Fitted runs one by one: residual, and shift of ln L of the forecast when the run is left out."""

    run: list[str]
    ln_predicted_over_observed: list[float]
    influence: list[float]


class SingleEpochLaw(Section):
    """L = E + A/N^alpha + B/D^beta, fitted to runs that saw every token once."""

    params: LossParams[float]
    interval95: LossParams[Interval | None]
    correlation: Correlation
    delta: float
    objective: float
    converged: bool
    convergence: Convergence
    noise: float  # robust standard deviation of ln L around the law
    allocation: Allocation
    range: FittedRange
    draws: LossParams[list[float]]
    residuals: Residuals


class PowerLawParams(Section, Generic[T]):
    """One value for each parameter of L = coefficient C^gamma."""

    coefficient: T
    gamma: T


class EnvelopePowerLaw(Section):
    """L = coefficient C^gamma through one definition of the envelope."""

    params: PowerLawParams[float]
    interval95: PowerLawParams[Interval | None]


class OffsetParams(Section, Generic[T]):
    """One value for each parameter of L = E + coefficient C^gamma."""

    E: T
    coefficient: T
    gamma: T


class OffsetPowerLaw(Section):
    """L = E + coefficient C^gamma through the envelope."""

    params: OffsetParams[float]
    interval95: OffsetParams[Interval | None]


class Curvature(Section):
    """Coefficient of (ln C)^2 in ln L along the envelope."""

    value: float | None
    interval95: Interval | None


class EnvelopePoints(Section):
    """The points of the envelope."""

    flops: list[float]
    loss: list[float]


class EnvelopeLaw(Section):
    """The compute envelope by the chosen definition, and its power law by every definition."""

    definition: EnvelopeDefinition
    params: PowerLawParams[float]
    interval95: PowerLawParams[Interval | None]
    curvature: Curvature
    offset: OffsetPowerLaw | Missing
    points: EnvelopePoints
    definitions: dict[EnvelopeDefinition, EnvelopePowerLaw | Missing]


class LawMinimum(Section):
    """The best size at one budget by the loss law: the same parabola through its losses of the same runs."""

    params: float | None  # None: these losses do not bend upwards
    interval95: Interval | None


class IsoflopBudget(Section):
    """The best size at one budget, or why it is refused."""

    flops: float
    sizes: int
    params: float | None = None
    interval95: Interval | None = None  # of params
    tokens: float | None = None
    loss: float | None = None
    refused: str | None = None
    by_law: LawMinimum | None = None


class SplitExponents(Section):
    """Intervals of the exponents of N_opt and D_opt."""

    a: Interval | None
    b: Interval | None


class LawExponent(Section):
    """The exponent a of the loss law's own minima at the same budgets."""

    a: float | None
    interval95: Interval | None


class IsoflopLaw(Section):
    """The best split through the minima of the budgets, and beside it what the loss law gives for the same runs."""

    params: Split[float]
    budgets: list[IsoflopBudget]
    interval95: SplitExponents | None = None
    by_law: LawExponent | None = None


class MissingIsoflopLaw(Missing):
    """Too few budgets with a minimum; why each is refused."""

    budgets: list[IsoflopBudget]


class Crossing(Section):
    """The compute at which the slower series reaches the best score of the faster one; None: never."""

    score: float
    flops: float | None
    interval95: Interval | None = None
    message: str


class EfficiencyRatio(Section):
    """Ratio of the exponents of two series for one score."""

    ratio: float
    interval95: Interval | None
    message: str
    crossing: Crossing | Missing
