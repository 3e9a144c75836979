"""How a training goes: metrics.jsonl always, TensorBoard or Weights & Biases by choice."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from speechscale.errors import UserError
from speechscale.records.seal import write_file
from speechscale.train.spec import RunSpec, Track

METRICS = "metrics.jsonl"
_TAIL = 4096  # bytes, more than a line
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


class Tracker(Protocol):
    """Somewhere that curves are drawn while a run goes on."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def require_tracker(track: Track) -> None:
    """Stop before any work when the package of the chosen tracker is absent.

    Raises:
        UserError: it is.
    """
    package = _PACKAGES.get(track)
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"track = '{track}': the package {package} is not installed; `pip install {package}`, or leave track out "
            f"({METRICS} is written in any case)."
        )


class Throughput:
    """Speed since the last look: tokens a second, their share of the peak, and the share of time without data."""

    def __init__(self, flops_per_token: float, peak: float, waited: float) -> None:
        """`peak`: FLOPs a second of all devices of the run. `waited`: seconds waited for data so far."""
        self._flops_per_token, self._peak = flops_per_token, peak
        self._since, self._waited = time.perf_counter(), waited

    def look(self, tokens: int, waited: float) -> dict[str, float]:
        """Of `tokens` since the last look."""
        now = time.perf_counter()
        seconds = now - self._since
        told = {
            "tokens_per_second": tokens / seconds,
            "mfu": tokens * self._flops_per_token / seconds / self._peak,
            "data_wait": (waited - self._waited) / seconds,
        }
        self._since, self._waited = now, waited
        return told

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in the block is not the training's: tests and checkpoints."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started


class Metrics:
    """Writes a line of metrics.jsonl, and tells the tracker, every time that it is told."""

    def __init__(self, folder: Path, spec: RunSpec, start: int) -> None:
        """Lines of steps from `start` on, which a killed training left behind its last checkpoint, are removed."""
        path = folder / METRICS
        _cut(path, start)
        self._file = path.open("a", encoding="utf-8")
        self._tracker = _open_tracker(folder, spec)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(step, values)

    def close(self) -> None:
        self._file.close()
        if self._tracker is not None:
            self._tracker.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's metrics.jsonl; a line cut off by a kill is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def latest_metrics(folder: Path) -> dict[str, Any]:
    """The last line of a training's metrics.jsonl, however long the file; {} where there is none."""
    try:
        with (folder / METRICS).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            lines = stream.read().split(b"\n")
        return json.loads(lines[-2]) if len(lines) > 1 else {}
    except (OSError, ValueError):
        return {}


def _cut(path: Path, start: int) -> None:
    if path.exists():
        kept = [line for line in read_metrics(path.parent) if line["step"] < start]
        write_file(path, "".join(json.dumps(line) + "\n" for line in kept))


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
