"""Specification of one run: what its result depends on, how it is executed, and the corpora that it names. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from speechscale.compute import Device, Precision
from speechscale.errors import UserError
from speechscale.model.shape import ModelShape, TrainingPreset, check_heads
from speechscale.records.shards import open_shards
from speechscale.records.toml import read_toml
from speechscale.tokens.mixture import TrainingCorpus
from speechscale.train.schedule import LearningRateSchedule, Schedule, decay_start, warmup_steps

OnStep = Callable[[int, int], None]  # called with (steps made, steps in all)
Parallel = Literal["ddp", "fsdp"]  # every process holds the whole model, or a shard of every matrix
Track = Literal["none", "tensorboard", "wandb"]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of a folder below that of the study

# These fields change speed, memory and what is kept, and the result by rounding at most, so a run may be resumed with
# other values of them.
EXECUTION_FIELDS = frozenset(
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
# In these fields the branches of one trunk may differ; the steps before the decay do not depend on them.
_BRANCH_FIELDS = frozenset(["run", "tokens", "decay", "final", "curve", "warmup"])


class MixtureComponent(BaseModel):
    """One corpus of a mixture: its share of all windows by weight, or by the tokens to see of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    shards: str  # folder, relative to the run's TOML file
    weight: float | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, ge=1)
    unique_tokens: int | None = Field(default=None, ge=1)  # use only so many of the corpus


class RunSpec(BaseModel):
    """Model, data, recipe and execution of one run."""

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
    unique_tokens: int | None = Field(default=None, ge=1)  # use only so many of the corpus
    corpora: tuple[MixtureComponent, ...] = Field(default=(), strict=False)  # none: the one corpus given
    peak_lr: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    schedule: Schedule = "cosine"
    warmup: int | None = Field(default=None, ge=0)  # steps; the study's rule when None
    decay: float = Field(default=0.2, gt=0, le=1)  # share of the steps; of `wsd` only
    final: float | None = Field(default=None, ge=0, le=1)  # share of the peak rate; None: the schedule's
    preset: TrainingPreset = "paper"
    precision: Precision = "auto"
    document_masking: bool = False  # attention inside utterances only; the study's crosses them
    seed: int = Field(default=0, ge=0)
    curve: int = Field(default=4, ge=0)  # test losses on the way

    processes: int = Field(default=1, ge=1)  # that a study starts for the run; elsewhere torchrun decides
    micro_batch: int | None = Field(default=None, ge=1)  # sequences per forward pass; None: all of a process
    parallel: Parallel = "ddp"
    compile: bool = False
    activation_checkpointing: bool = False  # recompute in the backward pass: less memory, a third more work
    device: Device = "auto"
    checkpoint_steps: int = Field(default=500, ge=1)
    keep_last: int = Field(default=1, ge=1)  # checkpoints
    keep: tuple[int, ...] = Field(default=(), strict=False)  # steps whose checkpoints are kept
    trunk: str | None = Field(default=None, pattern=_NAME)  # run in the same study that gives the first steps
    metrics_steps: int = Field(default=10, ge=1)  # between two lines of metrics.jsonl
    track: Track = "none"

    @model_validator(mode="after")
    def _consistent(self) -> RunSpec:
        check_heads(self.dim, self.heads)
        _check_schedule(self)
        _check_mixture(self)
        return self

    @property
    def steps(self) -> int:
        """Number of updates: those that the budget has tokens for."""
        return self.tokens // (self.batch * self.context)

    @property
    def tokens_seen(self) -> int:
        """D: tokens of all updates."""
        return self.steps * self.batch * self.context

    @property
    def tokens_trained(self) -> int:
        """Tokens of the updates that the run makes itself; a branch starts at a checkpoint of its trunk."""
        start = 0 if self.trunk is None else self.decay_start
        return (self.steps - start) * self.batch * self.context

    @property
    def warmup_steps(self) -> int:
        """Number of updates of the warm-up."""
        return warmup_steps(self.steps) if self.warmup is None else self.warmup

    @property
    def decay_start(self) -> int:
        """Step at which a run of schedule `wsd` branches off its trunk; the end of any other run."""
        return decay_start(self.steps, self.decay) if self.schedule == "wsd" else self.steps

    @property
    def learning_rate(self) -> LearningRateSchedule:
        """Learning rate by step."""
        return LearningRateSchedule(
            self.steps, self.peak_lr, self.preset, self.schedule, self.warmup_steps, self.decay, self.final
        )

    def shape(self, vocabulary: int) -> ModelShape:
        """Shape of the model for a vocabulary, EOS and padding included."""
        return ModelShape(
            layers=self.layers,
            dim=self.dim,
            heads=self.heads,
            vocabulary=vocabulary,
            context=self.context,
            hidden_multiple=self.hidden_multiple,
        )

    def identity(self) -> dict[str, JsonValue]:
        """The fields that the result depends on, as JSON; corpora without their folders: contents identify them."""
        fields = self.model_dump(mode="json", exclude=set(EXECUTION_FIELDS))
        fields["corpora"] = [
            {k: v for k, v in corpus.items() if k != "shards"} for corpus in fields["corpora"]
        ]
        return fields

    def trunk_identity(self) -> dict[str, JsonValue]:
        """What the steps before the decay depend on: equal for a trunk and all of its branches."""
        shared = {key: value for key, value in self.identity().items() if key not in _BRANCH_FIELDS}
        return shared | {"warmup_steps": self.warmup_steps}


def read_run(path: Path) -> RunSpec:
    """Parse the TOML file of one run.

    Raises:
        UserError: unreadable, not TOML, an unknown key (with the nearest valid one) or a value of the wrong kind.
    """
    return read_toml(path, RunSpec)


def to_toml(spec: RunSpec) -> str:
    """The run as `read_run` reads it."""
    fields = spec.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items())


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)  # TOML writes strings, numbers and booleans as JSON does


def open_corpora(
    spec: RunSpec, relative_to: Path, folders: Sequence[Path] = (), weights: Sequence[float] = ()
) -> tuple[RunSpec, list[TrainingCorpus]]:
    """The training corpora of a run, and its spec with a mixture of `folders` written into it.

    Args:
        spec: the run; names its corpora, or leaves them to `folders`.
        relative_to: folder that the corpora of the spec are relative to.
        folders: of training shards; several are mixed.
        weights: share of all windows that each folder gives; none for equal shares.

    Raises:
        UserError: both or neither name corpora, weights do not match the folders, or a folder has no shards.
    """
    if bool(folders) == bool(spec.corpora):
        raise UserError(
            f"{spec.run}: the TOML file names corpora, and so does --shards; leave one out."
            if folders
            else f"{spec.run}: no training shards; name them with --shards, or as [[corpora]] in the TOML file."
        )
    if not folders:
        if weights:
            raise UserError(
                "--weight goes with --shards; the corpora of the TOML file have their weights there."
            )
        return spec, [_open(component, relative_to) for component in spec.corpora]
    _check_weights(folders, weights)
    if len(folders) == 1:
        return spec, [TrainingCorpus(open_shards(folders[0]), limit=spec.unique_tokens)]
    if spec.unique_tokens is not None:
        raise UserError(
            f"{spec.run}: unique_tokens limits one corpus, and --shards names {len(folders)}; write them into the TOML "
            "file as [[corpora]], each with its unique_tokens."
        )
    components = tuple(
        MixtureComponent(shards=str(folder), weight=weights[number] if weights else None)
        for number, folder in enumerate(folders)
    )
    opened = [_open(component, Path()) for component in components]
    return spec.model_copy(update={"corpora": components}), opened


def _check_weights(folders: Sequence[Path], weights: Sequence[float]) -> None:
    if weights and len(weights) != len(folders):
        raise UserError(
            f"{len(weights)} --weight for {len(folders)} --shards; give each folder one, or none of them."
        )
    for weight in weights:
        if not 0 < weight < math.inf:
            raise UserError(f"--weight {weight:g}: a weight is a number above zero.")


def _open(component: MixtureComponent, relative_to: Path) -> TrainingCorpus:
    weight = float(component.weight or component.tokens or 1)
    return TrainingCorpus(open_shards(relative_to / component.shards), weight, component.unique_tokens)


def _check_schedule(spec: RunSpec) -> None:
    update = spec.batch * spec.context
    if spec.tokens < update:
        raise ValueError(
            f"tokens = {spec.tokens:,} are less than one update of batch {spec.batch} x context {spec.context} = "
            f"{update:,}; raise tokens, or lower batch or context"
        )
    if spec.warmup is not None and spec.warmup > spec.decay_start:
        decay = f", of which the last {spec.steps - spec.decay_start} decay" if spec.schedule == "wsd" else ""
        raise ValueError(
            f"a warm-up of {spec.warmup} steps does not fit: this run has {spec.steps} steps{decay}"
        )
    if spec.trunk is not None and spec.schedule != "wsd":
        raise ValueError(
            "only runs of schedule 'wsd' have a trunk: a cosine depends on the budget from the start"
        )


def _check_mixture(spec: RunSpec) -> None:
    if not spec.corpora:
        return
    if spec.unique_tokens is not None:
        raise ValueError("unique_tokens with corpora: give it to the corpus that it limits")
    budgets = [component.tokens for component in spec.corpora]
    weights = [component.weight for component in spec.corpora]
    if all(budget is not None for budget in budgets) and not any(weights):
        total = sum(budget or 0 for budget in budgets)
        if total != spec.tokens:
            raise ValueError(f"the corpora's tokens add up to {total}, tokens says {spec.tokens}")
    elif any(budgets) or (any(weights) and None in weights):
        raise ValueError("give every corpus a weight, or every corpus its tokens, or none of them either")
