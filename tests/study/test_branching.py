"""Ladders of trunks and branches: which runs there are, what they cost, and how failures are recorded."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from toy_shards import PREPROCESSING

from speechscale.errors import UserError
from speechscale.jobs.train_run import TrainingTask, is_done, train_and_score_run
from speechscale.records.revisions import revisions_of
from speechscale.records.runs import RECORD, RunRecord, read_record, write_record
from speechscale.records.shards import Sample, write_shard
from speechscale.study.branching import prune_trunks, trunks_then_branches
from speechscale.study.ladder import ladder_runs
from speechscale.study.spec import StudySpec, read_study
from speechscale.study.summary import ladder_table
from speechscale.train.branches import assign_trunks
from speechscale.train.checkpoint import checkpoint_path, list_checkpoints
from speechscale.train.spec import RunSpec

SMOKE = (Path(__file__).parents[2] / "studies" / "smoke.toml").read_text(encoding="utf-8")


def study(tmp_path: Path, recipe: str) -> StudySpec:
    path = tmp_path / "study.toml"
    speech_alone = SMOKE[: SMOKE.index("[[series]]")] + SMOKE[SMOKE.index("[laws]") :]
    path.write_text(speech_alone.replace("[ladder]\n", f"[ladder]\n{recipe}\n"))
    return read_study(path)


def test_budgets_of_a_size_share_a_trunk_when_they_read_the_same_corpus(tmp_path: Path) -> None:
    runs = ladder_runs(study(tmp_path, 'schedule = "wsd"'))
    smallest = {run.run: run for run in runs if run.dim == 16}
    assert {name: run.trunk for name, run in smallest.items()} == {
        "3.38k-32k": None,
        "3.38k-16k": "3.38k-32k",
        "3.38k-8k": "3.38k-32k",
        "3.38k-48k-of-12k": None,
        "3.38k-48k-of-24k": None,
    }
    # 512 tokens an update: 15, 31 and 62 steps, of which the last 3, 6 and 12 decay
    assert smallest["3.38k-32k"].keep == (12, 25)
    assert {run.warmup_steps for run in smallest.values() if run.unique_tokens is None} == {1}
    assert {run.schedule for run in runs} == {"wsd"}
    first = [run.trunk is None for run in runs]
    assert first == sorted(first, reverse=True) and sum(first) == 12  # every trunk before every branch


def test_plan_counts_the_flops_of_the_steps_that_are_trained(tmp_path: Path) -> None:
    """N = 3,376 and 512 tokens an update: the trunk makes 62 steps, its branches 31 - 25 and 15 - 12."""
    text = ladder_table(study(tmp_path, 'schedule = "wsd"'))
    header, *lines = (line.split() for line in text.splitlines())
    rows = {line[0]: line for line in lines}
    assert header[-8:] == ["branch", "of", "from", "step", "6ND", "FLOPs", "exact", "FLOPs"]
    update = 6 * 3_376 * 512
    assert rows["3.38k-32k"][-2] == f"{62 * update:.2e}"
    assert rows["3.38k-16k"][-4:-1] == ["3.38k-32k", "25", f"{6 * update:.2e}"]
    assert rows["3.38k-8k"][-4:-1] == ["3.38k-32k", "12", f"{3 * update:.2e}"]
    # every size has 62 + 31 + 15 + 93 + 93 steps of its own, and 62 + 6 + 3 + 93 + 93 with a trunk
    assert f"{257 / 294:.3f} of the" in text.splitlines()[-1]
    assert "branch" not in ladder_table(study(tmp_path, ""))


def test_impossible_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the run 3\.38k-8k is impossible: a warm-up of 14 steps does not fit"
    ):
        ladder_runs(study(tmp_path, 'schedule = "wsd"\nwarmup = 14'))
    with pytest.raises(UserError, match=r"ladder\.decay = 1\.0"):
        study(tmp_path, "decay = 1.0")
    with pytest.raises(UserError, match=r"ladder\.schedule = 'linear'"):
        study(tmp_path, 'schedule = "linear"')


@pytest.fixture
def tasks(tmp_path: Path) -> list[TrainingTask]:
    """A trunk of 20 steps, with branches after 8 and 12 steps."""
    for part in ("train", "test", "benchmarks"):
        units = np.append(np.random.default_rng(len(part)).integers(0, 16, 200), 16).astype(np.int16)
        write_shard(tmp_path / part / "shard-0", [Sample(part, units, 8.0, {})], [], PREPROCESSING)
    runs = [
        RunSpec(
            run=f"r{steps}",
            layers=1,
            dim=16,
            heads=1,
            context=32,
            batch=4,
            tokens=steps * 128,
            schedule="wsd",
        )
        for steps in (10, 15, 20)
    ]
    train, test, benchmarks = (tmp_path / part for part in ("train", "test", "benchmarks"))
    return [
        TrainingTask(run, tmp_path / "runs" / run.run, (train,), test, benchmarks)
        for run in assign_trunks(runs)
    ]


def ended(task: TrainingTask, status: str, note: str = "") -> RunRecord:
    spec, shape = task.spec, task.spec.shape(18)
    return RunRecord.model_validate(
        {
            "run": spec.run,
            "series": spec.series,
            "status": status,
            "preset": spec.preset,
            "seed": 0,
            "note": note,
            "revisions": revisions_of("train", "score"),
        }
        | {"params": shape.params, "params_total": shape.params_total, "steps": spec.steps, "seconds": 1.0}
        | {
            "tokens": spec.tokens,
            "unique_tokens": spec.tokens,
            "epochs": 1.0,
            "flops": 1.0,
            "flops_exact": 1.0,
        }
        | {"loss": 1.0 if status == "done" else None, "loss_se": None, "bits_per_second": None}
    )


def test_branches_start_after_all_trunks(tasks: list[TrainingTask]) -> None:
    assert [[task.spec.run for task in wave] for wave in trunks_then_branches(tasks)] == [
        ["r20"],
        ["r15", "r10"],
    ]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            "failed",
            "its trunk r20 failed before this run branches from it (no memory); run again to retry both",
        ),
        ("diverged", "its trunk r20 diverged before this run branches from it (no memory)"),
    ],
)
def test_branch_has_the_status_of_its_failed_trunk(
    tasks: list[TrainingTask], status: str, message: str
) -> None:
    """It fails with a trunk that failed, and is tried again; where the trunk diverged it would have itself."""
    trunk, branch, _ = tasks
    write_record(ended(trunk, status, "no memory"), trunk.folder / RECORD)
    record = train_and_score_run(branch)
    assert (record.status, record.note, record.loss) == (status, message, None)
    assert read_record(branch.folder / RECORD) == record
    assert is_done(branch) == (status == "diverged")


def test_trunk_checkpoints_are_kept_for_unfinished_branches(tasks: list[TrainingTask]) -> None:
    trunk, *branches = tasks
    trunk.folder.mkdir(parents=True)
    for step in (8, 12):
        checkpoint_path(trunk.folder, step).touch()
    for task in tasks:
        write_record(ended(task, "done"), task.folder / RECORD)
    for status in ("failed", "done"):
        write_record(ended(branches[0], status), branches[0].folder / RECORD)
        prune_trunks(tasks)
        assert list(list_checkpoints(trunk.folder)) == ([8, 12] if status == "failed" else [])


def test_run_of_one_step_has_no_trunk() -> None:
    common = {"layers": 1, "dim": 16, "heads": 1, "context": 32, "batch": 4, "schedule": "wsd"}
    short, long = (
        RunSpec.model_validate({**common, "run": f"r{steps}", "tokens": steps * 128}) for steps in (1, 20)
    )
    grown = assign_trunks([short, long])
    assert [(run.run, run.trunk, run.keep) for run in grown] == [("r20", None, ()), ("r1", None, ())]
    assert math.prod(run.warmup_steps for run in grown) == 1
