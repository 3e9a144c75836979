"""Plan files: written plans are read back as typed plans, and other files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.law_sections import Check
from speechscale.records.plan import (
    SCHEMA,
    Estimate,
    FurtherRun,
    FurtherRuns,
    GpuEstimate,
    LossEstimate,
    Plan,
    ScoreEstimate,
    read_further_runs,
    read_plan,
    write_plan,
)

HOURS = Estimate(value=12.5, interval95=(11.0, 14.0))
CHECKS = [Check(check="flat optimum", level="warning", message="the optimum is flat")]
PLAN = Plan(
    law="speech",
    members=1,
    backtested=False,
    flops=Estimate(value=1e21, interval95=None),
    params=Estimate(value=3e8, interval95=(2e8, 4e8)),
    tokens=Estimate(value=5.5e11, interval95=None),
    epochs=Estimate(value=1.5, interval95=(1.25, 1.75)),
    unique_tokens=2e10,
    loss=LossEstimate(value=1.75, interval95=(1.7, 1.8), law_interval95=(1.72, 1.78)),
    scores={"sblimp": ScoreEstimate(value=0.65, interval95=None, law_interval95=None)},
    audio_hours=HOURS,
    gpu=GpuEstimate(name="H100", mfu=0.4, hours=HOURS, cost=None),
    beyond={"flops": 20.0},
    notes=["beyond the fitted runs"],
    law_checks=CHECKS,
)
FURTHER_RUNS = FurtherRuns(
    runs=[FurtherRun(params=1e7, tokens=1e9, flops=6e16, forecast_se=0.02)], law_checks=CHECKS
)


def test_written_plan_is_read_back(tmp_path: Path) -> None:
    for plan in (PLAN, PLAN.model_copy(update={"unique_tokens": None, "audio_hours": None, "gpu": None})):
        write_plan(plan, tmp_path / "plan.json")
        assert read_plan(tmp_path / "plan.json") == plan


def test_written_further_runs_are_read_back(tmp_path: Path) -> None:
    write_plan(FURTHER_RUNS, tmp_path / "next.json")
    assert read_further_runs(tmp_path / "next.json") == FURTHER_RUNS


def test_plan_and_further_runs_are_not_confused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(FURTHER_RUNS, path)
    with pytest.raises(UserError, match=r"plan\.json: has next, law_checks, wanted 'plan'; make it again"):
        read_plan(path)
    write_plan(PLAN, path)
    with pytest.raises(UserError, match=r"plan\.json: has plan, wanted 'next'; .* `speechscale plan --next`"):
        read_further_runs(path)


def test_field_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    content = PLAN.model_dump(mode="json")
    path.write_text(json.dumps({"schema": SCHEMA, "plan": content | {"loss": "low"}}))
    with pytest.raises(
        UserError, match=r"plan\.json: loss: .*found 'low'; this is not the plan file of this"
    ):
        read_plan(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "schema is 'list'"),
        ('{"schema": "speechscale.plan/9"}', "schema is 'speechscale.plan/9', wanted 'speechscale.plan/2'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_plan(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.json: cannot be opened .* a plan file is wanted"):
        read_plan(tmp_path / "plan.json")
