"""The record of one trained model: how large, how long, how good."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Required, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, ValidationError

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.revisions import Stage, revisions_of
from speechscale.records.seal import write_json

RECORD = "record.json"  # the file of a run's record in the folder of the run
Status = Literal["done", "diverged", "failed", "imported"]  # imported: trained by another program


class Score(BaseModel):
    """Accuracy of one task in one condition, in [0, 1], with its 95 % interval over clusters of items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    low: float
    high: float
    items: int
    effective_items: float | None = None  # independent items with the same interval; None: not known
    chance: float = 0.5


class CurvePoint(BaseModel):
    """Test loss at one step of a training, in nats per token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens: int
    loss: float


class ModelSize(Protocol):
    """Parameters and training FLOPs of a model."""

    @property
    def params(self) -> int:
        """N: non-embedding parameters."""

    @property
    def params_total(self) -> int:
        """All parameters; tied embeddings count once."""

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""

    def flops_exact(self, tokens: int) -> float:
        """Training FLOPs with attention and the output projection."""


class Recipe(Protocol):
    """How a model was trained, as far as its record says it."""

    @property
    def run(self) -> str:
        """Name of the run."""

    @property
    def series(self) -> str:
        """Name of the ladder that the run belongs to."""

    @property
    def preset(self) -> str:
        """Whose recipe."""

    @property
    def seed(self) -> int:
        """Seed of initialisation and batches."""

    @property
    def steps(self) -> int:
        """Number of updates."""

    @property
    def schedule(self) -> str:
        """Learning-rate schedule."""

    @property
    def warmup_steps(self) -> int | None:
        """Number of updates of the warm-up; None where it is not known."""

    @property
    def tokens_seen(self) -> int:
        """D: tokens of all updates."""

    @property
    def tokens_trained(self) -> int | None:
        """Tokens of the updates that the run makes itself, without those of its trunk; None where not known."""


@dataclass(frozen=True)
class ImportedRecipe:
    """The recipe of a model that another program trained."""

    run: str
    series: str
    tokens_seen: int  # 0 where it is not known
    steps: int = 0  # 0 where it is not known
    preset: str = "unknown"
    seed: int = 0
    schedule: str = "cosine"
    warmup_steps: int | None = None
    tokens_trained: int | None = None


class Outcome(TypedDict, total=False):
    """How a run ended; fields of `RunRecord`."""

    status: Required[Status]
    seconds: Required[float]
    loss: float | None
    loss_se: float | None
    bits_per_second: float | None
    flops_spent: float | None
    curve: tuple[CurvePoint, ...]
    scores: dict[str, Score]
    note: str


class RunRecord(BaseModel):
    """One run: how large, how long, how good. Losses are nats per token on the natural-speech test set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    series: str
    status: Status
    preset: str  # whose recipe: see model/shape.py
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
    flops_spent: float | None = (
        None  # 6 N times the tokens of its own steps: of a branch, without its trunk's
    )
    curve: tuple[CurvePoint, ...] = ()
    scores: dict[str, Score] = {}
    note: str = ""  # why a run diverged or failed
    code: CodeIdentity | None = None  # that trained and scored; None in records of other tools
    revisions: dict[str, int] = {}  # of the stages that made the record

    @classmethod
    def of(
        cls,
        size: ModelSize,
        recipe: Recipe,
        *,
        unique_tokens: int,
        epoch_tokens: int,
        **outcome: Unpack[Outcome],
    ) -> RunRecord:
        """The record of a model, from its size, its recipe and its outcome; with the identity of this code.

        Args:
            size: parameters and FLOPs of the model.
            recipe: the run's spec, or what is known of the training of an imported model.
            unique_tokens: different tokens among those that the run has seen.
            epoch_tokens: tokens of one pass over the training data; 0 where that is not known.
            outcome: status, seconds, losses, scores and note; what is left out is None or empty.
        """
        tokens, trained = recipe.tokens_seen, recipe.tokens_trained
        stages: tuple[Stage, ...] = ("score",) if outcome["status"] == "imported" else ("train", "score")
        fields = {
            "run": recipe.run,
            "series": recipe.series,
            "preset": recipe.preset,
            "seed": recipe.seed,
            "params": size.params,
            "params_total": size.params_total,
            "tokens": tokens,
            "unique_tokens": unique_tokens,
            "epochs": tokens / epoch_tokens if epoch_tokens else 0.0,
            "steps": recipe.steps,
            "flops": size.flops(tokens),
            "flops_exact": size.flops_exact(tokens),
            "flops_spent": None if trained is None else size.flops(trained),
            "loss": None,
            "loss_se": None,
            "bits_per_second": None,
            "schedule": recipe.schedule,
            "warmup_steps": recipe.warmup_steps,
            "code": code_identity(),
            "revisions": revisions_of(*stages),
        }
        return cls.model_validate(fields | outcome)

    def row(self) -> dict[str, object]:
        """The run as one row of the runs table."""
        row = self.model_dump(exclude={"curve", "scores", "note", "code", "revisions"})
        for name, score in sorted(self.scores.items()):
            row[name] = score.accuracy
            row[f"{name}_items"] = score.items
            if score.effective_items is not None:
                row[f"{name}_effective_items"] = score.effective_items
            row[f"{name}_chance"] = score.chance
        return row


def write_record(record: RunRecord, path: Path) -> None:
    """Write one run record as JSON."""
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
