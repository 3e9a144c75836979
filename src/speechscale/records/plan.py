"""Plans: the expected outcome of a budget, the expected budget of a goal, and further runs to make."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject, read_schema_object
from speechscale.records.law_sections import Check, Interval
from speechscale.records.seal import write_json
from speechscale.records.validation import first_fault

SCHEMA = "speechscale.plan/2"
Model = TypeVar("Model", bound=BaseModel)


class Estimate(BaseModel):
    """A number with its central 95 % interval; None where it was given, or where too few draws are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    interval95: Interval | None


class LossEstimate(Estimate):
    """A loss with two intervals: `interval95` for one new run, `law_interval95` for the mean of runs so made."""

    law_interval95: Interval | None


class ScoreEstimate(Estimate):
    """A score with two intervals: `interval95` for one new run, `law_interval95` for the mean of runs so made."""

    law_interval95: Interval | None


class GpuEstimate(BaseModel):
    """Time on a named GPU at a model FLOPs utilisation, and its price where one was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    mfu: float
    hours: Estimate
    cost: Estimate | None


class FurtherRun(BaseModel):
    """A run to make next, and the standard error of the forecast ln L once it and those before it are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: float
    tokens: float
    flops: float
    forecast_se: float


class FurtherRuns(BaseModel):
    """The runs to make next under one law, and the checks of that law."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: list[FurtherRun]
    law_checks: list[Check]


class Plan(BaseModel):
    """The best use of a budget under one law, and the checks of that law."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    law: str  # the series, or the publication
    members: int  # laws of the family that the numbers are pooled over
    flops: Estimate
    params: Estimate
    tokens: Estimate
    epochs: Estimate
    unique_tokens: float | None
    loss: LossEstimate
    scores: dict[str, ScoreEstimate]
    audio_hours: Estimate | None
    gpu: GpuEstimate | None
    beyond: dict[str, float]  # factors above 1 by which params, tokens, flops are outside the fitted runs
    backtested: bool
    notes: list[str]
    law_checks: list[Check]


def write_plan(plan: Plan | FurtherRuns, path: Path) -> None:
    """Write a plan, or the runs to make next, as JSON."""
    if isinstance(plan, Plan):
        write_json(Path(path), {"schema": SCHEMA, "plan": plan.model_dump()})
        return
    content = plan.model_dump()
    write_json(Path(path), {"schema": SCHEMA, "next": content["runs"], "law_checks": content["law_checks"]})


def read_plan(path: Path) -> Plan:
    """Read the plan of a budget or of a goal.

    Raises:
        UserError: not a plan file, of another schema, or with the runs to make next in place of a plan.
    """
    return _validated(Plan, _content(path, "plan", "speechscale plan")["plan"], path)


def read_further_runs(path: Path) -> FurtherRuns:
    """Read the runs to make next.

    Raises:
        UserError: not a plan file, of another schema, or with a plan in place of runs.
    """
    content = _content(path, "next", "speechscale plan --next")
    runs = {"runs": content.pop("next"), **content}
    return _validated(FurtherRuns, runs, path)


def _content(path: Path, key: str, command: str) -> JsonObject:
    """The content of a plan file that has `key`, without its schema."""
    again = f"make it again with `{command}`"
    content = read_schema_object(path, SCHEMA, kind="plan file", remedy=again)
    if key not in content:
        raise UserError(f"{path}: has {', '.join(content) or 'nothing'}, wanted {key!r}; {again}.")
    return content


def _validated(model: type[Model], content: object, path: Path) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_fault(error, 'the whole')}; this is not the plan file of this version; make it again "
            "with `speechscale plan`."
        ) from None
