"""The progress of a study: a line per run and a total, printed once or kept up to date on a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from speechscale.jobs.train_run import read_progress
from speechscale.records.runs import RECORD, read_record
from speechscale.study.folder import read_spec
from speechscale.study.ladder import flops_trained, ladder_runs
from speechscale.study.spec import StudySpec
from speechscale.study.summary import format_table
from speechscale.train.metrics import latest_metrics, logged_steps
from speechscale.train.spec import RunSpec

_HEADER = ("run", "status", "step", "loss", "tokens/s", "data wait", "left", "note")
_REFRESH_SECONDS = 2.0
_WAITING = "waiting"


@dataclass(frozen=True)
class RunStatus:
    """The progress of one run.

    Attributes:
        run: its name.
        status: waiting, training or scoring; or the status of its record.
        done: completed steps.
        steps: all steps.
        loss: test loss (nats per token) when the run is done, else the training loss of the last updates.
        flops: exact FLOPs of the steps that the run itself makes.
        fraction: completed fraction of `flops`, 0 to 1.
        tokens_per_second: current training speed.
        data_wait: fraction of the time in which training waits for data.
        flops_per_second: current speed in exact FLOPs; 0 unless it trains.
        seconds: remaining time of a running run, or duration of a finished one.
        note: why it diverged or failed.
    """

    run: str
    status: str
    done: int
    steps: int
    loss: float | None
    flops: float
    fraction: float
    tokens_per_second: float = 0.0
    data_wait: float = 0.0
    flops_per_second: float = 0.0
    seconds: float | None = None
    note: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether the run has no record yet."""
        return self.status in (_WAITING, "training", "scoring")

    def cells(self) -> tuple[str, ...]:
        """The row of the table, one cell per column of the header."""
        training = self.flops_per_second > 0
        left = "" if self.seconds is None else _hours(self.seconds) + ("" if self.unfinished else " taken")
        return (
            self.run,
            self.status,
            f"{self.done:,}/{self.steps:,}",
            "" if self.loss is None else f"{self.loss:.4f}",
            f"{self.tokens_per_second:,.0f}" if training else "",
            f"{self.data_wait:.1%}" if training else "",
            left,
            self.note[:60],
        )


@dataclass(frozen=True)
class StudyStatus:
    """The progress of a study."""

    title: str
    runs: Sequence[RunStatus]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, header first."""
        return [_HEADER, *(run.cells() for run in self.runs)]

    def total(self) -> str:
        """Progress by FLOPs, and the remaining time at the speed of the runs in progress."""
        flops = sum(run.flops for run in self.runs)
        done = sum(run.flops * run.fraction for run in self.runs)
        speed = sum(run.flops_per_second for run in self.runs)
        ended = sum(not run.unfinished for run in self.runs)
        left = (
            f"; {_hours((flops - done) / speed)} left at the speed of the runs in progress" if speed else ""
        )
        return f"{ended} of {len(self.runs)} runs ended, {done / flops:.1%} of {flops:.2e} FLOPs{left}"


def study_status(folder: Path) -> StudyStatus:
    """The progress of the study in `folder`, from its files alone.

    Raises:
        UserError: there is no study.
    """
    spec = read_spec(folder)
    report = "report.html is written" if (folder / "report.html").exists() else "no report yet"
    runs = [_run_status(spec, run, folder / "runs" / run.run) for run in ladder_runs(spec)]
    return StudyStatus(f"{folder}: {spec.title}; {report}", runs)


def status_table(folder: Path) -> str:
    """The progress of the study in `folder` as text."""
    status = study_status(folder)
    return f"{status.title}\n{format_table(status.rows())}\n{status.total()}"


def watch(folder: Path) -> None:
    """Show the table on a terminal until all runs have ended, with the runs in progress first.

    Raises:
        UserError: there is no study.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text  # plain strings would be parsed as markup

    def render(status: StudyStatus) -> Group:
        grid = Table(*_HEADER, title=Text(status.title), box=None)
        for run in sorted(status.runs, key=lambda run: run.status not in ("training", "scoring")):
            grid.add_row(*map(Text, run.cells()))
        return Group(Text(status.total()), grid)  # the total first: a long table is cut at the bottom

    console = Console()
    status = study_status(folder)
    with Live(render(status), console=console, auto_refresh=False) as live:
        while any(run.unfinished for run in status.runs):
            time.sleep(_REFRESH_SECONDS)
            status = study_status(folder)
            live.update(render(status), refresh=True)


def _run_status(spec: StudySpec, run: RunSpec, folder: Path) -> RunStatus:
    flops = flops_trained(spec, run)
    if (folder / RECORD).exists():
        record = read_record(folder / RECORD)
        done = run.steps if record.status == "done" else logged_steps(folder)
        return RunStatus(
            run.run,
            record.status,
            done,
            run.steps,
            record.loss,
            flops,
            1.0,
            seconds=record.seconds,
            note=record.note,
        )
    first = run.decay_start if run.trunk else 0
    progress = read_progress(folder)
    done = logged_steps(folder) if progress is None else round(progress * run.steps)
    fraction = max(0, done - first) / (run.steps - first)
    latest = latest_metrics(folder)
    loss = latest.loss if latest else None
    if progress is None:
        return RunStatus(run.run, _WAITING, done, run.steps, loss, flops, fraction)
    if done >= run.steps:
        return RunStatus(run.run, "scoring", done, run.steps, loss, flops, fraction)
    speed = latest.tokens_per_second if latest else 0.0
    return RunStatus(
        run.run,
        "training",
        done,
        run.steps,
        loss,
        flops,
        fraction,
        tokens_per_second=speed,
        data_wait=latest.data_wait if latest else 0.0,
        flops_per_second=speed * run.shape(spec.vocabulary).flops_exact(1),
        seconds=(run.steps - done) * run.batch * run.context / speed if speed else None,
    )


def _hours(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
