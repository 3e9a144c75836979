"""The TOML file of a study: typed keys and values; anything else is refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.compute import Precision
from speechscale.model.shape import ModelShape, TrainingPreset, check_heads
from speechscale.records.json_objects import JsonObject
from speechscale.records.shards import vocabulary_of
from speechscale.records.toml import read_toml
from speechscale.speech.storyworld.corpus import WorldSpec
from speechscale.tokens.text import TEXT_VOCABULARY
from speechscale.tokens.unigram import UnigramSpec
from speechscale.train.schedule import Schedule
from speechscale.train.spec import MixtureComponent
from speechscale.units.encoders import encoder_identity
from speechscale.units.hubert import HubertSpec
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.mel import MelSpec

SPEECH = "speech"  # name of the only series where a study defines none


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class UnitsSpec(_Table):
    """Speech to units."""

    mel: MelSpec = MelSpec()
    hubert: HubertSpec | None = None  # instead of mel
    kmeans: KMeansSpec = KMeansSpec()
    minutes_per_shard: float = Field(default=30.0, gt=0)  # of audio; a shard is the unit of work

    @model_validator(mode="after")
    def _one_encoder(self) -> UnitsSpec:
        if self.hubert and "mel" in self.model_fields_set:
            raise ValueError("[units.mel] and [units.hubert] are two encoders; keep one")
        return self

    def encoder(self) -> JsonObject:
        """The identity of the encoder.

        Raises:
            UserError: a HuBERT that is not there or not pinned.
        """
        if self.hubert:
            return encoder_identity(self.hubert.model, self.hubert.model_dump(exclude={"model"}))
        return encoder_identity("mel", self.mel.model_dump())


class InputShardsSpec(_Table):
    """Speech that is already encoded: folders of shards, relative to the working directory."""

    train: str | None = None
    mixture: tuple[MixtureComponent, ...] = Field(default=(), strict=False)  # instead of train
    test: str
    benchmarks: str | None = None  # None: runs are not scored
    vocabulary: int = Field(ge=3)  # units, EOS and padding
    unique_tokens: int = Field(ge=1)  # of the training shards: one epoch

    @model_validator(mode="after")
    def _one_training_set(self) -> InputShardsSpec:
        if (self.train is None) == (not self.mixture):
            raise ValueError("give train (one folder) or [[corpus.mixture]] (several, with weights)")
        if any(part.tokens for part in self.mixture):
            raise ValueError(
                "a [[corpus.mixture]] has weights; the tokens that a run sees are set by its budget"
            )
        if len({part.weight is None for part in self.mixture}) > 1:
            raise ValueError("give every [[corpus.mixture]] a weight, or none of them")
        return self


class SizeSpec(_Table):
    """One model size of the ladder."""

    layers: int = Field(ge=1)
    dim: int = Field(ge=2)
    heads: int = Field(ge=1)
    batch: int = Field(ge=1)  # sequences per update
    peak_lr: float = Field(gt=0)
    processes: int | None = Field(default=None, ge=1)  # None: that of the ladder
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), strict=False
    )  # additional runs of this size

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> SizeSpec:
        check_heads(self.dim, self.heads)
        return self


class BudgetSpec(_Table):
    """The tokens that every size sees: a number of tokens, tokens per parameter (D/N), or epochs.

    `unique` limits the corpus, so that its tokens are repeated; an epoch is one pass over them.
    """

    tokens: int | None = Field(default=None, ge=1)
    tokens_per_parameter: float | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    unique: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_measure(self) -> BudgetSpec:
        measures = [
            each for each in (self.tokens, self.tokens_per_parameter, self.epochs) if each is not None
        ]
        if len(measures) != 1:
            raise ValueError("a budget has one of tokens, tokens_per_parameter and epochs")
        return self


def _check_batches(sizes: Sequence[SizeSpec], default_processes: int) -> None:
    """Check that the processes of a run can share its batch equally.

    Raises:
        ValueError: they cannot.
    """
    for number, size in enumerate(sizes):
        processes = size.processes or default_processes
        if size.batch % processes:
            raise ValueError(
                f"size {number}: batch = {size.batch} sequences cannot be divided evenly among processes = {processes}"
            )


class LadderSpec(_Table):
    """Sizes × budgets, and the training recipe of all runs."""

    context: int = Field(ge=2)
    hidden_multiple: int = Field(default=256, ge=1)
    weight_decay: float = Field(default=0.1, ge=0)
    preset: TrainingPreset = "paper"
    schedule: Schedule = "cosine"
    warmup: int | None = Field(
        default=None, ge=0
    )  # steps; None: the rule of the paper; a trunk has that of its shortest run
    decay: float = Field(default=0.2, gt=0, lt=1)  # fraction of the steps; for `wsd` only
    final: float | None = Field(default=None, ge=0, le=1)  # fraction of the peak learning rate at the end
    keep_trunks: bool = False  # keep the checkpoints of trunks when all branches are done
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0)
    curve: int = Field(default=4, ge=0)
    checkpoint_steps: int = Field(default=500, ge=1)
    processes: int = Field(default=1, ge=1)  # per run, with one GPU or core each
    sizes: tuple[SizeSpec, ...] = Field(min_length=1, strict=False)
    budgets: tuple[BudgetSpec, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _every_size_has_runs(self) -> LadderSpec:
        for number, size in enumerate(self.sizes):
            if not (self.budgets or size.steps):
                raise ValueError(f"size {number} has no runs: give the ladder budgets, or the size steps")
        return self

    @model_validator(mode="after")
    def _processes_share_batches(self) -> LadderSpec:
        _check_batches(self.sizes, self.processes)
        return self


class SeriesSpec(_Table):
    """A separate ladder, on other tokens of the speech of the study, or on a part of it.

    `tokens`: units, or characters of the transcripts. `unigram`: pieces learnt from these. `dataset`: the part of the
    training corpus with that name; two parts have equal size where their budgets have the same `unique`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    tokens: Literal["units", "characters"] = "units"
    unigram: UnigramSpec | None = None
    dataset: str | None = None
    sizes: tuple[SizeSpec, ...] = Field(default=(), strict=False)  # those of the ladder where empty
    budgets: tuple[BudgetSpec, ...] = Field(default=(), strict=False)  # those of the ladder where empty

    @property
    def derived(self) -> bool:
        """Whether its shards are derived from those of the study."""
        return self.tokens != "units" or self.unigram is not None or self.dataset is not None


class LawsSpec(_Table):
    """How the laws are fitted."""

    bootstrap: int = Field(default=1000, ge=100)  # fewer draws give no 95 % interval
    seed: int = Field(default=0, ge=0)


class StudySpec(_Table):
    """A study: speech or shards, units, ladder, series, laws."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    question: str
    world: WorldSpec | None = None
    corpus: InputShardsSpec | None = None
    units: UnitsSpec = UnitsSpec()  # of a story world
    ladder: LadderSpec
    series: tuple[SeriesSpec, ...] = Field(default=(SeriesSpec(name=SPEECH),), min_length=1, strict=False)
    laws: LawsSpec = LawsSpec()

    @model_validator(mode="after")
    def _one_corpus(self) -> StudySpec:
        if (self.world is None) == (self.corpus is None):
            raise ValueError("a study has one of the tables [world] (a story world) and [corpus] (shards)")
        for series in self.series:
            _check_batches(series.sizes, self.ladder.processes)
            budgets = self.ladder_of(series).budgets
            unknown = self.corpus is None or series.derived
            if unknown and any(each.epochs and not each.unique for each in budgets):
                raise ValueError(
                    "a budget in epochs needs `unique`, because the size of the corpus is unknown before it is made"
                )
            if self.corpus and self.corpus.mixture and any(each.unique for each in budgets):
                raise ValueError(
                    "`unique` limits one corpus; set unique_tokens of a [[corpus.mixture]] instead"
                )
        return self

    @model_validator(mode="after")
    def _series_are_apart(self) -> StudySpec:
        names = [series.name for series in self.series]
        if len(set(names)) < len(names):
            raise ValueError(
                f"two series have the name {max(names, key=names.count)!r}; give each its own name"
            )
        return self

    @property
    def vocabulary(self) -> int:
        """Vocabulary of the units: clusters, EOS and padding."""
        return self.corpus.vocabulary if self.corpus else self.units.kmeans.clusters + 2

    def vocabulary_of(self, name: str) -> int:
        """Vocabulary of a series, EOS and padding included."""
        series = next(each for each in self.series if each.name == name)
        if series.unigram:
            return vocabulary_of(series.unigram.vocabulary)["vocab_size"]
        return self.vocabulary if series.tokens == "units" else TEXT_VOCABULARY

    def ladder_of(self, series: SeriesSpec) -> LadderSpec:
        """The ladder of a series: that of the study, with the sizes and budgets of the series where it has any."""
        overrides = {name: getattr(series, name) for name in ("sizes", "budgets") if getattr(series, name)}
        return self.ladder.model_copy(update=overrides)

    def shape(self, size: SizeSpec) -> ModelShape:
        """The model shape of a size."""
        return ModelShape(
            layers=size.layers,
            dim=size.dim,
            heads=size.heads,
            vocabulary=self.vocabulary,
            context=self.ladder.context,
            hidden_multiple=self.ladder.hidden_multiple,
        )


def read_study(path: Path) -> StudySpec:
    """Parse a study file.

    Raises:
        UserError: unreadable, not TOML, an unknown key (with the nearest valid one) or a value of the wrong kind.
    """
    return read_toml(path, StudySpec)
