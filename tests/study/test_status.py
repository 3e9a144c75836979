"""Where a study is: runs that are done, under way and waiting, by hand; and the table on a terminal, until they end."""

from __future__ import annotations

import json
import os
import platform
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from run_records import run_record

from speechscale.errors import UserError
from speechscale.records.runs import RunRecord, write_record
from speechscale.records.seal import write_json
from speechscale.study.ladder import flops_trained, ladder_runs
from speechscale.study.spec import StudySpec
from speechscale.study.status import status_table, study_status
from speechscale.train.spec import RunSpec

SPEC = {
    "name": "s",
    "title": "S",
    "question": "?",
    "corpus": {"train": "a", "test": "b", "vocabulary": 18, "unique_tokens": 9000},
    "ladder": {
        "context": 32,
        "hidden_multiple": 8,
        "sizes": [{"layers": 1, "dim": 8, "heads": 1, "batch": 4, "peak_lr": 1e-3}],
        "budgets": [{"tokens": 12_800}, {"tokens": 6_400}, {"tokens": 1_280}],
    },
}


def record_of(run: RunSpec, status: str = "done") -> RunRecord:
    loss = 2.5 if status == "done" else None
    note = "" if status == "done" else "it broke"
    return run_record(run=run.run, status=status, loss=loss, seconds=61.0, note=note)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """100, 50 and 10 steps: the first is at step 40, the second waits, the third is done."""
    write_json(tmp_path / "study.json", {"spec": SPEC})
    long, _, short = ladder_runs(StudySpec.model_validate(SPEC))
    write_record(record_of(short), tmp_path / "runs" / short.run / "record.json")
    told = {"done": 40, "steps": 100, "pid": os.getpid(), "host": platform.node()}
    write_json(tmp_path / "runs" / long.run / "progress.json", told)
    lines = [
        {"step": step, "loss": 3.0 - step / 100, "tokens_per_second": 640.0, "data_wait": 0.002}
        for step in (9, 19, 29, 39)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 49, "lo'  # being written
    (tmp_path / "runs" / long.run / "metrics.jsonl").write_text(text)
    return tmp_path


def test_status_of_every_run_and_the_total(folder: Path) -> None:
    """60 steps of 128 tokens at 640 a second: 12 s; with 50 more steps of the run that waits, 22 s."""
    now = study_status(folder)
    training, waiting, done = now.runs
    assert training.cells()[1:] == ("training", "40/100", "2.6100", "640", "0.2%", "0:00:12", "")
    assert waiting.cells()[1:] == ("waiting", "0/50", "", "", "", "", "")
    assert done.cells()[1:] == ("done", "10/10", "2.5000", "", "", "0:01:01 taken", "")
    spec = StudySpec.model_validate(SPEC)
    flops = sum(flops_trained(spec, run) for run in ladder_runs(spec))
    assert now.total() == (
        f"1 of 3 runs ended, {50 / 160:.1%} of {flops:.2e} FLOPs; 0:00:22 left at the speed of the runs in progress"
    )


def test_run_of_a_dead_process_is_waiting(folder: Path) -> None:
    path = next(folder.glob("runs/*/progress.json"))
    told = json.loads(path.read_text())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps(told | {"pid": ended.pid}))
    assert study_status(folder).runs[0].status == "waiting" and "left at" not in study_status(folder).total()
    path.write_text(json.dumps(told | {"host": "another machine"}))
    assert study_status(folder).runs[0].status == "training"
    os.utime(path, (0, 0))
    assert study_status(folder).runs[0].status == "waiting"
    with pytest.raises(UserError, match="`speechscale study run` makes a study folder"):
        status_table(folder / "runs")


def test_watch_updates_the_terminal_until_all_runs_have_ended(folder: Path) -> None:
    command = [str(Path(sys.executable).with_name("speechscale")), "study", "status", str(folder), "--watch"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stdout.rstrip() == status_table(folder) and piped.stderr == ""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while b"training" not in shown:
            shown += os.read(ours, 4096)
        long, other, _ = ladder_runs(StudySpec.model_validate(SPEC))
        write_record(record_of(long), folder / "runs" / long.run / "record.json")
        write_record(record_of(other, "failed"), folder / "runs" / other.run / "record.json")
        while b"it broke" not in shown:
            shown += os.read(ours, 4096)
        assert process.wait(timeout=20) == 0
    assert b"3 of 3 runs ended, 100.0%" in shown
    os.close(ours)
