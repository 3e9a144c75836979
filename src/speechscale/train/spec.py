"""What one run is: what its result depends on besides the data, and how it is carried out. No torch."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.compute import Device, Precision
from speechscale.model.shape import ModelShape, TrainingPreset, check_heads
from speechscale.train.schedule import Schedule, decay_start, warmup_steps

Parallel = Literal["ddp", "fsdp"]  # every process holds the whole model, or a share of every matrix
Track = Literal["none", "tensorboard", "wandb"]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of a folder, and of none outside the one it lies in

# How a run is carried out: these change speed, memory and what is kept, the result by rounding at most. So a run may
# be resumed with others.
HOW = frozenset(
    [
        "processes",
        "micro_batch",
        "parallel",
        "compile",
        "activation_checkpointing",
        "device",
        "checkpoint_steps",
        "keep_last",
        "keep",
        "trunk",
        "metrics_steps",
        "track",
    ]
)
# What tells the runs of one trunk apart; all else must be the same for their first steps to be the same.
_OF_A_BRANCH = frozenset(["run", "tokens", "decay", "final", "curve", "warmup"])


class CorpusSpec(BaseModel):
    """One corpus of a mixture: its share of all windows by weight, or by the tokens to see of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    shards: str  # folder, relative to the run's TOML file
    weight: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=1)
    unique_tokens: int | None = Field(default=None, ge=1)  # use only so much of it


class RunSpec(BaseModel):
    """What to train, on how much, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    run: str = Field(pattern=_NAME)  # also the name of its folder
    series: str = "speech"
    layers: int = Field(ge=1)
    dim: int = Field(ge=2)
    heads: int = Field(ge=1)
    hidden_multiple: int = Field(default=256, ge=1)
    context: int = Field(default=2050, ge=2)
    batch: int = Field(ge=1)  # sequences per update, of all processes together
    tokens: int = Field(ge=1)  # D, rounded down to whole updates
    unique_tokens: int | None = Field(default=None, ge=1)  # use only so much of the corpus
    corpora: tuple[CorpusSpec, ...] = Field(default=(), strict=False)  # a mixture; none: the one corpus given
    peak_lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    schedule: Schedule = "cosine"
    warmup: int | None = Field(default=None, ge=0)  # steps; the study's rule when None
    decay: float = Field(default=0.2, gt=0, le=1)  # share of the steps; of `wsd` only
    final: float | None = Field(
        default=None, ge=0, le=1
    )  # share of the peak at the end; None: the schedule's
    preset: TrainingPreset = "paper"
    precision: Precision = "auto"
    document_masking: bool = False  # attention stays inside the utterance; the study's does not
    seed: int = Field(default=0, ge=0)
    curve: int = Field(default=4, ge=0)  # test losses read on the way

    processes: int = Field(default=1, ge=1)  # that a study starts for the run; elsewhere `torchrun` says
    micro_batch: int | None = Field(
        default=None, ge=1
    )  # sequences per forward pass of one process; None: all
    parallel: Parallel = "ddp"
    compile: bool = False
    activation_checkpointing: bool = False  # recompute in the backward pass: less memory, a third more work
    device: Device = "auto"
    checkpoint_steps: int = Field(default=500, ge=1)
    keep_last: int = Field(default=1, ge=1)  # checkpoints
    keep: tuple[int, ...] = Field(default=(), strict=False)  # steps whose checkpoints stay
    trunk: str | None = Field(
        default=None, pattern=_NAME
    )  # run beside this one, of whose steps the first are taken
    metrics_steps: int = Field(default=10, ge=1)  # between two lines of metrics.jsonl
    track: Track = "none"

    @model_validator(mode="after")
    def _possible(self) -> RunSpec:
        check_heads(self.dim, self.heads)
        update = self.batch * self.context
        if self.tokens < update:
            raise ValueError(
                f"tokens = {self.tokens:,} are less than one update of batch {self.batch} x context {self.context} = "
                f"{update:,}; raise tokens, or lower batch or context"
            )
        if self.warmup is not None and self.warmup > self.decay_start:
            raise ValueError(
                f"a warm-up of {self.warmup} steps does not fit: this run has {self.steps} steps"
                + (
                    f", of which the last {self.steps - self.decay_start} decay"
                    if self.schedule == "wsd"
                    else ""
                )
            )
        if self.trunk is not None and self.schedule != "wsd":
            raise ValueError(
                "only runs of schedule 'wsd' have a trunk: a cosine depends on the budget from the start"
            )
        _check_mixture(self)
        return self

    @property
    def tokens_seen(self) -> int:
        """D: whole updates of the budget."""
        return self.steps * self.batch * self.context

    @property
    def steps(self) -> int:
        return self.tokens // (self.batch * self.context)

    @property
    def warmup_steps(self) -> int:
        return warmup_steps(self.steps) if self.warmup is None else self.warmup

    @property
    def decay_start(self) -> int:
        """Where a run of schedule `wsd` leaves its trunk; the end of any other."""
        return decay_start(self.steps, self.decay) if self.schedule == "wsd" else self.steps

    def shape(self, vocabulary: int) -> ModelShape:
        return ModelShape(
            layers=self.layers,
            dim=self.dim,
            heads=self.heads,
            vocabulary=vocabulary,
            context=self.context,
            hidden_multiple=self.hidden_multiple,
        )

    def what(self) -> dict[str, Any]:
        """What the result depends on, as JSON; the folders of a mixture are known by their content instead."""
        told = self.model_dump(mode="json", exclude=set(HOW))
        told["corpora"] = [{k: v for k, v in corpus.items() if k != "shards"} for corpus in told["corpora"]]
        return told

    def trunk_of(self) -> dict[str, Any]:
        """What the steps before the decay depend on: equal for all branches of a trunk, and for the trunk."""
        shared = {key: value for key, value in self.what().items() if key not in _OF_A_BRANCH}
        return shared | {"warmup_steps": self.warmup_steps}


def to_toml(spec: RunSpec) -> str:
    """The run as `speechscale train` reads it."""
    told = spec.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key} = {_toml(value)}\n" for key, value in told.items())


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    return json.dumps(
        value, ensure_ascii=False
    )  # strings, numbers and truth are written alike in both languages


def _check_mixture(spec: RunSpec) -> None:
    if not spec.corpora:
        return
    if spec.unique_tokens is not None:
        raise ValueError("unique_tokens beside corpora: give it to the corpus that it limits")
    budgets = [corpus.tokens for corpus in spec.corpora]
    weights = [corpus.weight for corpus in spec.corpora]
    if all(budget is not None for budget in budgets) and not any(weights):
        total = sum(budget or 0 for budget in budgets)
        if total != spec.tokens:
            raise ValueError(f"the corpora's tokens add up to {total}, tokens says {spec.tokens}")
    elif any(budgets) or (any(weights) and None in weights):
        raise ValueError("give every corpus a weight, or every corpus its tokens, or none of them either")
