"""A study of existing shards: it trains and writes a report, or is refused when the shards differ from its file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from toy_shards import PREPROCESSING, counter_units
from toy_study import TINY_LADDER

from speechscale.errors import UserError
from speechscale.jobs.train_run import TrainingTask, is_done, train_and_score_run
from speechscale.records.runs import read_record
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.study.run import run_study, train_all
from speechscale.study.shards import input_shard_folders, training_tasks
from speechscale.study.spec import SPEECH, StudySpec, read_study
from speechscale.train.spec import open_corpora, to_toml
from speechscale.workers.choose import choose_backend
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import Backend

STUDY = f"""
name = "given"
title = "Given"
question = "Does it run?"
[corpus]
train = "train"
test = "test"
vocabulary = 18
unique_tokens = 2_600
{TINY_LADDER}
sizes = [
  {{ layers = 1, dim = 8, heads = 1, batch = 4, peak_lr = 4e-3 }},
  {{ layers = 1, dim = 16, heads = 1, batch = 4, peak_lr = 4e-3 }},
]
budgets = [{{ tokens = 1_280 }}, {{ epochs = 1 }}]
[laws]
bootstrap = 100
"""
Write = Callable[..., StudySpec]


def write_counters(name: str, seed: int, preprocessing: dict[str, Any] = PREPROCESSING) -> None:
    rng = np.random.default_rng(seed)
    samples = [Sample(f"{name}{number}", counter_units(rng, 25), 1.0, {}) for number in range(100)]
    write_shard(Path(name) / "shard-0", samples, [], preprocessing)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Reads the study with parts of its file replaced; its shards are in the working directory."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("train", "test", "more")):
        write_counters(name, seed)

    def write_study(*replaced: tuple[str, str]) -> StudySpec:
        text = STUDY
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new, 1)
        Path("study.toml").write_text(text)
        return read_study(Path("study.toml"))

    return write_study


def tasks_of(spec: StudySpec) -> list[TrainingTask]:
    assert spec.corpus
    return training_tasks(spec, {SPEECH: input_shard_folders(spec.corpus)}, Path("runs").absolute())


def test_study_of_input_shards_writes_a_report(write: Write) -> None:
    lines: list[str] = []
    report = run_study(write(), Path("out"), backend=LocalBackend(2), log=lines.append)
    assert len(lines) == 4 and all(" done " in line for line in lines)
    page = report.read_text()
    assert "nothing to listen to" in page
    records = [read_record(path) for path in Path("out").glob("runs/*/record.json")]
    assert {record.epochs for record in records} == {1280 / 2592, 2560 / 2592} and not records[0].scores
    facts = json.loads(Path("out/study.json").read_text())["facts"]
    assert facts == {
        "audio_hours": 100 / 3600,
        "units": 2600,
        "units_per_second": 26.0,
        "vocabulary": 18,
        "skipped": 0,
    }
    verified = Path("out/verified.json").stat().st_mtime_ns
    next(Path("out").glob("runs/*/record.json")).unlink()
    run_study(write(), Path("out"), backend=LocalBackend(1))
    assert (
        Path("out/verified.json").stat().st_mtime_ns == verified
    )  # a corpus of terabytes is read whole once


def test_mixture_is_trained_with_its_weights(write: Write) -> None:
    mixture = "[[corpus.mixture]]\nshards = 'train'\nweight = 3.0\n[[corpus.mixture]]\nshards = 'more'\nweight = 1.0\n"
    spec = write(("[ladder]", mixture + "[ladder]"), ('train = "train"\n', ""), ("= 2_600", "= 5_200"))
    tasks = tasks_of(spec)
    of_run, corpora = open_corpora(tasks[0].spec, Path(), tasks[0].train, [])
    assert [corpus.weight for corpus in corpora] == [3.0, 1.0]
    (record,) = train_all(tasks[-1:], spec, LocalBackend(1))
    assert (record.status, record.unique_tokens) == ("done", 1280)
    assert "weight = 3.0" in to_toml(of_run)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "vocabulary = 18",
            "vocabulary = 502",
            r"corpus.vocabulary is 502, but the shards in .*train have 18",
        ),
        ("= 2_600", "= 9_600", r"corpus.unique_tokens is 9,600, but the training shards hold 2,600 units"),
        ('test = "test"', 'test = "train"', "is not held out"),
        ('test = "test"', 'test = "nowhere"', "nowhere: no shards of units here"),
        ('test = "test"', 'test = "test"\nbenchmarks = "other"', "were encoded differently: kmeans.sha256"),
        (
            "context = 32",
            "context = 2600",
            "tokens = 1,280 are less than one update of batch 4 x context 2600 = 10,400",
        ),
    ],
)
def test_input_shards_that_differ_from_the_spec_are_refused(
    write: Write, old: str, new: str, message: str
) -> None:
    write_counters("other", 7, {**PREPROCESSING, "kmeans": {"name": "k", "sha256": "x"}})
    with pytest.raises(UserError, match=message):
        run_study(write((old, new)), Path("out"), backend=LocalBackend(1))
    assert not Path("out").exists()


def test_damaged_shard_is_refused_before_training(write: Write) -> None:
    spec = write()
    units = np.fromfile("train/shard-0/audio.bin", dtype="<i2")
    units[3] += 1
    units.tofile("train/shard-0/audio.bin")
    with pytest.raises(UserError, match=r"audio.bin: missing or changed since the shard was sealed"):
        run_study(spec, Path("out"), backend=LocalBackend(1))
    assert not Path("out/runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('train = "train"\n', "", r"give train \(one folder\) or \[\[corpus.mixture\]\]"),
        (
            "batch = 4",
            "batch = 4, processes = 3",
            "batch = 4 sequences cannot be divided evenly among processes = 3",
        ),
        ("curve = 1", "curve = 1\nprocesses = 8", "size 0: batch = 4 .* processes = 8"),
    ],
)
def test_invalid_specs_are_refused(write: Write, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write((old, new))


def outcomes(spec: StudySpec, tasks: list[TrainingTask], folder: str, backend: Backend) -> dict[str, Any]:
    """Everything of the records that does not depend on the clock."""
    moved = [replace(task, folder=Path(folder).absolute() / task.spec.run) for task in tasks]
    records = list(train_all(moved, spec, backend))
    return {record.run: record.model_dump(exclude={"seconds"}) for record in records}


@pytest.mark.slow
def test_ray_and_local_workers_give_the_same_records_failures_included(write: Write) -> None:
    """One run diverges and one fails; the others are the same wherever they are made, byte for byte."""
    ray = pytest.importorskip("ray")
    spec = write()
    tasks = tasks_of(spec)
    wild = tasks[1].spec.model_copy(update={"run": "wild", "peak_lr": 1e38})
    asks = tasks[1].spec.model_copy(update={"run": "asks", "unique_tokens": 20})
    tasks += [replace(task, spec=run) for task, run in zip(tasks, (wild, asks), strict=False)]
    here = outcomes(spec, tasks, "here", LocalBackend(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")]),
        )
        there = outcomes(spec, tasks, "there", choose_backend("ray", 2))
    ray.shutdown()
    assert here == there and len(here) == 6
    assert [here[name]["status"] for name in ("wild", "asks")] == ["diverged", "failed"]
    assert sum(record["status"] == "done" for record in here.values()) == 4
    for name, record in here.items():
        models = [Path(folder) / name / "model.safetensors" for folder in ("here", "there")]
        assert [model.exists() for model in models] == [record["status"] == "done"] * 2
        if record["status"] == "done":
            ours, theirs = (load_file(model) for model in models)
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours.keys() | theirs.keys())
    assert "a window needs 33" in here["asks"]["note"]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(write: Write) -> None:
    spec = write()
    task = tasks_of(spec)[0]
    alone = train_and_score_run(task)
    shared = replace(
        task,
        spec=task.spec.model_copy(update={"processes": 2}),
        folder=Path("two").absolute(),
    )
    (record,) = train_all([shared], spec, LocalBackend(1))
    assert record.status == "done", record.note
    assert record.loss == pytest.approx(alone.loss, abs=1e-6)
    assert [point.loss for point in record.curve] == pytest.approx([p.loss for p in alone.curve], abs=1e-6)
    assert is_done(shared) and not (shared.folder / "progress.json").exists()
    wrong = replace(shared, test=shared.train[0], folder=Path("wrong").absolute())
    (failed,) = train_all([wrong], spec, LocalBackend(1))
    assert failed.status == "failed" and "is not held out" in failed.note
    assert open_shards(shared.test)
