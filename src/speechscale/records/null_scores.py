"""Scores that untrained models of one shape reach on benchmarks: null.json, beside the scores of the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from speechscale.records.code import CodeIdentity
from speechscale.records.json_objects import read_model
from speechscale.records.scores import (
    BenchmarkProvenance,
    Convention,
    SpecialTokens,
    TaskAccuracy,
    headlines,
)
from speechscale.records.seal import write_json

NULL_FILE = "null.json"
SCHEMA: Literal["speechscale.null/1"] = "speechscale.null/1"
BAND_RULE = (
    "95 % of further untrained models: mean -+ t sd sqrt(1 + 1/models), t with models - 1 degrees of freedom, within "
    "[0, 1]"
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class NullBand(_Model):
    """Where 95 % of untrained models score, for one accuracy; the first four fields are those of `TaskAccuracy`."""

    task: str
    condition: str
    part: str
    mean_over: str
    mean: float
    sd: float
    low: float
    high: float

    def contains(self, accuracy: float) -> bool:
        """Whether an untrained model may well reach this accuracy."""
        return self.low <= accuracy <= self.high


class NullScores(_Model):
    """Content of null.json."""

    schema_: Literal["speechscale.null/1"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    code: CodeIdentity | None = None
    revisions: dict[str, int] = {}  # of the stages "score" and "train", whose initialisation is used
    model: str  # whose shape the untrained models have
    models: int = Field(ge=2)
    seed: int
    convention: Convention
    tokens: SpecialTokens
    benchmarks: dict[str, BenchmarkProvenance] = {}  # by task
    band_rule: str = BAND_RULE
    bands: tuple[NullBand, ...]

    @property
    def headline_bands(self) -> dict[str, NullBand]:
        """The bands of the scores of a runs table, by name."""
        return headlines(self.bands, self.convention)

    def band_of(self, accuracy: TaskAccuracy) -> NullBand | None:
        """The band of an accuracy; None where the untrained models were not scored on it."""
        key = (accuracy.task, accuracy.condition, accuracy.part, accuracy.mean_over)
        return next((b for b in self.bands if (b.task, b.condition, b.part, b.mean_over) == key), None)


def write_null_scores(scores: NullScores, path: Path) -> None:
    """Write null.json."""
    write_json(path, scores.model_dump(mode="json", by_alias=True))


def read_null_scores(path: Path) -> NullScores:
    """Read null.json.

    Raises:
        UserError: the file is missing, or not of schema speechscale.null/1.
    """
    return read_model(path, NullScores, SCHEMA)
