"""How a study goes: a line for each run, and how far all of them are; once, or kept up to date on a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from speechscale.errors import UserError
from speechscale.jobs.train_run import read_progress
from speechscale.records.runs import RECORD, read_record
from speechscale.study.ladder import flops_trained, ladder_runs
from speechscale.study.spec import StudySpec
from speechscale.study.summary import table
from speechscale.train.metrics import latest_metrics
from speechscale.train.spec import RunSpec

_HEADER = ("run", "status", "step", "loss", "tokens/s", "data wait", "left", "note")
_EVERY = 2.0  # seconds between two looks
_WAITING = "waiting"


@dataclass(frozen=True)
class RunStanding:
    """Where one run is. `pace`: exact FLOPs a second, 0 unless it trains; `seconds`: those left, or those it took."""

    run: str
    status: str
    done: int
    steps: int
    loss: float | None  # on test speech when it is done, else of the last updates
    flops: float  # of the steps that it makes itself
    share: float  # of these, done
    tokens_per_second: float = 0.0
    data_wait: float = 0.0
    pace: float = 0.0
    seconds: float | None = None
    note: str = ""

    @property
    def open(self) -> bool:
        return self.status in (_WAITING, "training", "scoring")

    def cells(self) -> tuple[str, ...]:
        training = self.pace > 0
        left = "" if self.seconds is None else _hours(self.seconds) + ("" if self.open else " taken")
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
class Standing:
    """Where a study is."""

    title: str
    runs: Sequence[RunStanding]

    def rows(self) -> list[tuple[str, ...]]:
        return [_HEADER, *(run.cells() for run in self.runs)]

    def total(self) -> str:
        """Progress by FLOPs, and the time left at the pace of the runs under way."""
        flops = sum(run.flops for run in self.runs)
        done = sum(run.flops * run.share for run in self.runs)
        pace = sum(run.pace for run in self.runs)
        ended = sum(not run.open for run in self.runs)
        left = f"; {_hours((flops - done) / pace)} left at the pace of the runs under way" if pace else ""
        return f"{ended} of {len(self.runs)} runs ended, {done / flops:.1%} of {flops:.2e} FLOPs{left}"


def standing(folder: Path) -> Standing:
    """Where the study in `folder` is, from its files alone.

    Raises:
        UserError: no study there.
    """
    spec = _spec_of(folder)
    report = "report.html is written" if (folder / "report.html").exists() else "no report yet"
    runs = [_run(spec, run, folder / "runs" / run.run) for run in ladder_runs(spec)]
    return Standing(f"{folder}: {spec.title}; {report}", runs)


def status_table(folder: Path) -> str:
    """`standing` as text."""
    now = standing(folder)
    return f"{now.title}\n{table(now.rows())}\n{now.total()}"


def watch(folder: Path) -> None:
    """Show the table on a terminal until all runs have ended; what is under way stands first.

    Raises:
        UserError: no study there.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text  # not bare strings, whose brackets would be read as markup

    def drawn(now: Standing) -> Group:
        grid = Table(*_HEADER, title=Text(now.title), box=None)
        for run in sorted(now.runs, key=lambda run: run.status not in ("training", "scoring")):
            grid.add_row(*map(Text, run.cells()))
        return Group(Text(now.total()), grid)  # the total above, where a long table does not push it out

    console = Console()
    now = standing(folder)
    with Live(drawn(now), console=console, auto_refresh=False) as live:
        while any(run.open for run in now.runs):
            time.sleep(_EVERY)
            now = standing(folder)
            live.update(drawn(now), refresh=True)


def _run(spec: StudySpec, run: RunSpec, folder: Path) -> RunStanding:
    flops = flops_trained(spec, run)
    if (folder / RECORD).exists():
        record = read_record(folder / RECORD)
        done = run.steps if record.status == "done" else _step(folder)
        return RunStanding(
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
    share = read_progress(folder)
    done = _step(folder) if share is None else round(share * run.steps)
    made = max(0, done - first) / (run.steps - first)
    latest = latest_metrics(folder)
    loss = latest.get("loss")
    if share is None:
        return RunStanding(run.run, _WAITING, done, run.steps, loss, flops, made)
    if done >= run.steps:
        return RunStanding(run.run, "scoring", done, run.steps, loss, flops, made)
    speed = latest.get("tokens_per_second", 0.0)
    return RunStanding(
        run.run,
        "training",
        done,
        run.steps,
        loss,
        flops,
        made,
        tokens_per_second=speed,
        data_wait=latest.get("data_wait", 0.0),
        pace=speed * run.shape(spec.vocabulary).flops_exact(1),
        seconds=(run.steps - done) * run.batch * run.context / speed if speed else None,
    )


def _step(folder: Path) -> int:
    """Steps that the metrics tell of; a training that was killed goes on from a checkpoint before."""
    return int(latest_metrics(folder).get("step", -1)) + 1


def _hours(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _spec_of(folder: Path) -> StudySpec:
    path = folder / "study.json"
    try:
        return StudySpec.model_validate(json.loads(path.read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no study here ({error}); `speechscale study run` makes one.") from error
