"""Plan: what a law expects of a budget, or what budget it expects a goal to take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from speechscale.records.seal import write_json

SCHEMA = "speechscale.plan/1"


class Estimate(BaseModel):
    """A number with its central 95 % interval; None where the law's draws cannot close it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    interval95: tuple[float, float] | None


class Gpu(BaseModel):
    """Time on a named GPU at a model FLOPs utilisation, and its price where one was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    mfu: float
    hours: Estimate
    cost: Estimate | None


class Run(BaseModel):
    """A run worth making next, and the standard error of the forecast once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: float
    tokens: float
    flops: float
    forecast_se: float


class Plan(BaseModel):
    """One best way to spend a budget under one law."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    law: str  # the series, or the publication
    flops: Estimate
    params: Estimate
    tokens: Estimate
    epochs: Estimate
    unique_tokens: float | None
    loss: Estimate
    scores: dict[str, Estimate]
    audio_hours: Estimate | None
    gpu: Gpu | None
    beyond: dict[str, float]  # params, tokens, flops over the largest of the fitted runs
    notes: list[str]


def write_plan(plan: Plan | list[Run], path: Path) -> None:
    """Write a plan, or the runs worth making next, as JSON."""
    content: Any = plan.model_dump() if isinstance(plan, Plan) else [run.model_dump() for run in plan]
    write_json(Path(path), {"schema": SCHEMA, "plan" if isinstance(plan, Plan) else "next": content})
