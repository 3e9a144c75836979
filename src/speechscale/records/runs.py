"""The record of one trained model: how large, how long, how good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from speechscale.errors import UserError
from speechscale.records.seal import write_json

Status = Literal[
    "done", "diverged", "failed", "imported"
]  # the last: trained elsewhere, so 0 where not known


class Score(BaseModel):
    """Accuracy of one task in one condition, in [0, 1], with its 95 % interval over items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    low: float
    high: float
    items: int
    chance: float = 0.5


class CurvePoint(BaseModel):
    """Test loss read during training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens: int
    loss: float


class RunRecord(BaseModel):
    """One run: how large, how long, how good. Losses are nats per token on the natural-speech test set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    series: str
    status: Status
    preset: str  # whose recipe: see train/loop.py
    seed: int
    params: int  # N: non-embedding parameters
    params_total: int
    tokens: int  # D: tokens seen, repeats counted
    unique_tokens: int
    epochs: float
    steps: int
    flops: float  # 6 N D
    flops_exact: float  # with attention and the output projection
    loss: float | None  # None unless status is "done"
    loss_se: float | None
    bits_per_second: float | None  # loss per second of audio, comparable across tokenizers
    seconds: float  # wall clock of training and test
    schedule: str = "cosine"
    warmup_steps: int | None = None  # None in records from before it was kept
    flops_spent: float | None = None  # 6 N times tokens of its own steps, so of a branch without its trunk's
    curve: tuple[CurvePoint, ...] = ()
    scores: dict[str, Score] = {}
    note: str = ""  # why a run diverged or failed

    def row(self) -> dict[str, object]:
        """The run as one row of the runs table."""
        row = self.model_dump(exclude={"curve", "scores", "note"})
        for name, score in sorted(self.scores.items()):
            row[name] = score.accuracy
            row[f"{name}_items"] = score.items
        return row


def write_record(record: RunRecord, path: Path) -> None:
    write_json(path, record.model_dump(mode="json"))


def read_record(path: Path) -> RunRecord:
    """Read one run record.

    Raises:
        UserError: the file is no run record.
    """
    try:
        return RunRecord.model_validate(json.loads(Path(path).read_text()))
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(f"{path}: not a run record ({error}).") from error
