"""Metrics of a training: metrics.jsonl in any case, TensorBoard or Weights & Biases by choice."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from speechscale.errors import UserError
from speechscale.records.seal import write_file
from speechscale.train.spec import RunSpec, Track

METRICS = "metrics.jsonl"
_TAIL_BYTES = 4096  # more than one line
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


class MetricsLine(BaseModel):
    """One line of metrics.jsonl; what later versions add is kept.

    Attributes:
        step: number of the update, from 0.
        loss: of the batch, in nats per token.
        rate: learning rate.
        gradient_norm: before clipping.
        tokens_per_second: since the line before, as are the next two.
        mfu: share of the peak FLOPs.
        data_wait: share of the time spent waiting for data.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    step: int
    loss: float | None = None
    rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float = 0.0
    mfu: float = 0.0
    data_wait: float = 0.0


class Tracker(Protocol):
    """A program that draws the curves of a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""

    def close(self) -> None:
        """Write what is pending."""


def require_tracker(track: Track) -> None:
    """Require the package of the chosen tracker, before any work.

    Raises:
        UserError: it is not installed.
    """
    package = _PACKAGES.get(track)
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"track = '{track}': the package {package} is not installed; `pip install {package}`, or leave track out "
            f"({METRICS} is written in any case)."
        )


class Throughput:
    """Speed since the last measurement: tokens per second, FLOPs utilisation, share of time spent waiting for data."""

    def __init__(self, flops_per_token: float, peak_flops: float, wait_seconds: float) -> None:
        """Start measuring.

        Args:
            flops_per_token: of a forward and backward pass.
            peak_flops: per second, of all devices of the run together.
            wait_seconds: waited for data so far.
        """
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._since, self._wait_seconds = time.perf_counter(), wait_seconds

    def measure(self, tokens: int, wait_seconds: float) -> dict[str, float]:
        """`tokens_per_second`, `mfu` and `data_wait` (share of time) of the `tokens` since the last measurement."""
        now = time.perf_counter()
        seconds = now - self._since
        values = {
            "tokens_per_second": tokens / seconds,
            "mfu": tokens * self._flops_per_token / seconds / self._peak_flops,
            "data_wait": (wait_seconds - self._wait_seconds) / seconds,
        }
        self._since, self._wait_seconds = now, wait_seconds
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out: test losses and checkpoints are not training."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started


class MetricsLog:
    """Writes lines of metrics.jsonl, and the same values to the tracker."""

    def __init__(self, folder: Path, spec: RunSpec, start: int) -> None:
        """Open the file; lines from step `start` on, left by a run killed after its last checkpoint, are removed."""
        path = folder / METRICS
        _remove_lines_from(path, start)
        self._file = path.open("a", encoding="utf-8")
        self._tracker = _open_tracker(folder, spec)

    def log(self, line: MetricsLine) -> None:
        """Write one line."""
        self._file.write(_to_json(line))
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(line.step, line.model_dump(exclude={"step"}, exclude_unset=True))

    def close(self) -> None:
        """Close file and tracker."""
        self._file.close()
        if self._tracker is not None:
            self._tracker.close()


def read_metrics(folder: Path) -> list[MetricsLine]:
    """The lines of a run's metrics.jsonl; a last line that a kill cut off is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [MetricsLine(**json.loads(line)) for line in lines if line.endswith("\n") and line.strip()]


def latest_metrics(folder: Path) -> MetricsLine | None:
    """The last line of a run's metrics.jsonl, in constant time; None where there is none."""
    try:
        with (folder / METRICS).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().split(b"\n")
        return MetricsLine(**json.loads(lines[-2])) if len(lines) > 1 else None
    except (OSError, TypeError, ValueError):
        return None


def logged_steps(folder: Path) -> int:
    """Steps that the metrics tell of; an interrupted training continues from an earlier checkpoint."""
    latest = latest_metrics(folder)
    return 0 if latest is None else latest.step + 1


def _remove_lines_from(path: Path, start: int) -> None:
    if path.exists():
        kept = [line for line in read_metrics(path.parent) if line.step < start]
        write_file(path, "".join(map(_to_json, kept)))


def _to_json(line: MetricsLine) -> str:
    return json.dumps(line.model_dump(exclude_unset=True)) + "\n"


def _open_tracker(folder: Path, spec: RunSpec) -> Tracker | None:
    if spec.track == "tensorboard":
        return _TensorBoard(folder / "tensorboard")
    if spec.track == "wandb":
        return _Wandb(folder, spec)
    return None


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, spec: RunSpec) -> None:
        import wandb

        config = spec.model_dump(mode="json")
        self._run = wandb.init(project="speechscale", name=spec.run, dir=str(folder), config=config)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
