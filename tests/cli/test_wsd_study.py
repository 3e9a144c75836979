"""A study of trunks and branches by the installed command, killed and run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from toy_study import COMMAND, STUDY, speechscale

from speechscale.jobs.train_run import TrainingTask, train_and_score_run
from speechscale.records.runs import read_record
from speechscale.records.seal import is_locked
from speechscale.records.shards import open_shards
from speechscale.study.ladder import ladder_runs
from speechscale.study.spec import read_study
from speechscale.train.loop import train_run

pytestmark = pytest.mark.slow

BUDGETS = "budgets = [{ tokens = 60_000 }, { tokens = 30_000 }, { tokens = 15_000 }]"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wsd") / "toy.toml"
    head, _, tail = STUDY.partition("budgets = ")
    text = head.replace("[ladder]\n", '[ladder]\nschedule = "wsd"\n') + BUDGETS + tail[tail.index("\n") :]
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def study(spec: Path) -> Path:
    """Killed when both trunks are done, before all branches are, and run again."""
    folder = spec.parent / "study"
    process = subprocess.Popen(
        [COMMAND, "study", "run", spec, "-o", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    trunks = 0
    for line in process.stdout:
        trunks += "-60k" in line
        if trunks == 2:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    while any(is_locked(run) for run in folder.glob("runs/*")):  # orphaned workers end by themselves
        time.sleep(0.1)
    assert len(list(folder.glob("runs/*-60k/training-*"))) == 4  # from which the branches start
    assert len(list(folder.glob("runs/*/record.json"))) < 6 and not (folder / "report.html").exists()
    speechscale("study", "run", spec, "-o", folder)
    return folder


def test_branches_are_scored_like_all_runs_and_make_fewer_steps(study: Path) -> None:
    records = [read_record(path) for path in study.glob("runs/*/record.json")]
    assert len(records) == 6 and {(r.status, r.schedule) for r in records} == {("done", "wsd")}
    spent = {r.tokens // 512: r.flops_spent / r.flops for r in records if r.params < 10_000 and r.flops_spent}
    assert spent == pytest.approx({117: 1.0, 58: 12 / 58, 29: 6 / 29})
    assert all(r.scores for r in records)
    assert not list(study.glob("runs/*/training-*"))  # no branch needs them any more


def test_every_run_ends_with_the_loss_of_a_separate_run(study: Path, spec: Path, tmp_path: Path) -> None:
    train, test = (open_shards(study / "units" / part) for part in ("train", "test"))
    for run in ladder_runs(read_study(spec)):
        alone = train_run(run.model_copy(update={"trunk": None}), train, test, tmp_path / run.run)
        record = read_record(study / "runs" / run.run / "record.json")
        assert (record.loss, record.loss_se) == (alone.loss, alone.loss_se)


def test_branch_without_the_checkpoints_of_its_trunk_makes_all_steps_to_the_same_result(
    study: Path, spec: Path
) -> None:
    branch = next(run for run in ladder_runs(read_study(spec)) if run.trunk)
    folder = study / "runs" / branch.run
    before = read_record(folder / "record.json")
    shutil.rmtree(folder)
    units = study / "units"
    again = train_and_score_run(
        TrainingTask(branch, folder, (units / "train",), units / "test", units / "benchmarks")
    )
    assert (again.loss, again.scores) == (before.loss, before.scores)
    assert before.flops_spent is not None and again.flops_spent == again.flops > before.flops_spent
