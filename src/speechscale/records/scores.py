"""Scores of a model on benchmarks: likelihoods per pair (scores.parquet) and accuracies by a convention (scores.json).

The table has one row per pair of recordings. Log-likelihoods are sums, stored with the number of units; the closing
token and the prompt have columns of their own. Any convention can therefore be applied later without the model, except
another choice of the token before the first. A pair without scores is a row of nulls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity
from speechscale.records.json_objects import read_model
from speechscale.records.runs import Score
from speechscale.records.seal import write_file, write_json

SCORE_TABLE, SCORES_FILE = "scores.parquet", "scores.json"
INTERVAL_RULE = (
    "95 %; items of one contrast or one template are resampled together; a contrast is that of the label, else the "
    "words that only one of both transcripts has, else the units between the common beginning and the common end"
)
SCHEMA: Literal["speechscale.scores/2"] = "speechscale.scores/2"
_DEFAULT_CONDITIONS = ("", "seen", "dev")  # conditions that the name of a score omits
_NOT_SCORED_NOTE = re.compile(r"\d+ pairs were not scored, the first ")

Types = dict[str, pl.DataType | type[pl.DataType]]
LABELS: Types = {  # as in `records/items.py`
    "task": pl.String,
    "group_id": pl.String,
    "pair_id": pl.String,
    "voice": pl.String,
    "phenomenon": pl.String,
    "condition": pl.String,
    "frequency": pl.Float64,
    "contrast": pl.String,  # what differs between the members; empty where not known
    "contrast_source": pl.String,  # label, text or units
    "template": pl.String,  # empty where none is labelled
}
COLUMNS: Types = LABELS | {
    "name_correct": pl.String,  # of the recording: the stem of its file, or its id
    "name_wrong": pl.String,
    "nll_correct": pl.Float64,  # summed negative log-likelihood, nats, without the closing token
    "units_correct": pl.Int64,  # units scored, without the closing token
    "nll_end_correct": pl.Float64,  # of the closing token
    "nll_wrong": pl.Float64,
    "units_wrong": pl.Int64,
    "nll_end_wrong": pl.Float64,
    "nll_prompt": pl.Float64,  # of the prompt as labelled or inferred (--given prompt); null where unknown
    "units_prompt": pl.Int64,
}


_CLUSTER_COLUMNS = ("contrast", "contrast_source", "template")  # not in tables of earlier versions


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Convention(_Model):
    """How two likelihoods become a correct or wrong answer, and many answers an accuracy.

    Sources of the presets: docs/evaluation.md.
    """

    preset: str = "official"  # the preset that the switches were set from
    nll: Literal["mean", "sum"] = "mean"  # over the tokens scored
    bos: bool = True  # a token before the first unit; without it the first unit is not scored
    terminal: bool = False  # whether the closing token is scored
    ties: Literal["half", "lost", "by-task"] = "by-task"  # by-task: half, but lost in StoryCloze
    given: Literal["nothing", "prompt"] = "nothing"  # prompt: only the ending is scored
    voices: Literal["mean", "pairs"] = "mean"  # mean within an item first, or all pairs of recordings alike
    headline: Literal["macro", "micro"] = "macro"  # over phenomena, or over items


class _Sparse(_Model):
    """A model whose optional fields are left out of JSON where they do not apply."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        fields = type(self).model_fields
        values: dict[str, object] = handler(self)
        return {key: value for key, value in values.items() if value is not None or fields[key].is_required()}


class SpecialTokens(_Sparse):
    """Token ids around every scored sequence, and where the units begin."""

    before_first: int | None  # None: the convention has no such token
    closing: int
    unit_0: int | None = None  # token of unit 0; None for text models


class BenchmarkProvenance(_Sparse):
    """The data and the numerics behind the scores of one task."""

    shards: str | None = None  # hash of the content of the shards
    texts: str | None = None  # path of a written benchmark
    precision: str
    context: int  # tokens
    prompts_not_labelled: int | None = None  # pairs whose prompt was inferred; only with --given prompt
    contrasts: dict[str, int] | None = None  # pairs by the source of their contrast: label, text or units


class TaskAccuracy(_Model):
    """One accuracy of a task, in [0, 1], with its 95 % interval over clusters of items, and what it is the mean of."""

    task: str
    condition: str
    part: str  # a phenomenon or a frequency band; "" for the whole task
    mean_over: str  # "phenomena" (macro), or "items" or "pairs" (micro)
    accuracy: float
    low: float
    high: float
    items: int
    effective_items: float | None = None  # independent items with the same interval; None: not known
    chance: float = 0.5

    @property
    def score(self) -> Score:
        """The number with its interval, as run records keep it."""
        return Score.model_validate({name: getattr(self, name) for name in Score.model_fields})


def score_name(task: str, part: str, condition: str) -> str:
    """The name of an accuracy in a runs table: `task` or `task.part`, and the condition unless it is the usual one."""
    name = f"{task}.{part}" if part else task
    return name if condition in _DEFAULT_CONDITIONS else f"{name}_{condition}"


class _Placed(Protocol):
    """A number of one task, condition and part."""

    @property
    def task(self) -> str: ...
    @property
    def condition(self) -> str: ...
    @property
    def part(self) -> str: ...


Placed = TypeVar("Placed", bound=_Placed)


def headlines(entries: Iterable[Placed], convention: Convention) -> dict[str, Placed]:
    """The entries of a runs table by name: of a macro- and a micro-average, the one that the convention chooses.

    Args:
        entries: the macro-average before the micro-average of the same name.
        convention: of the scores.
    """
    result: dict[str, Placed] = {}
    for each in entries:
        name = score_name(each.task, each.part, each.condition)
        if name not in result or convention.headline == "micro":
            result[name] = each
    return result


class ScoresFile(_Model):
    """Content of scores.json: the accuracies of one model by one convention."""

    schema_: Literal["speechscale.scores/2"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    code: CodeIdentity | None = None  # that scored
    revisions: dict[str, int] = {}  # of the stage "score"
    model: str  # as it was named; "." for the run in whose folder the file is
    convention: Convention
    tokens: SpecialTokens
    benchmarks: dict[str, BenchmarkProvenance] = {}  # by task
    pairs: int  # rows of the score table
    not_scored: tuple[str, ...] = ()  # pairs without a score, task/pair_id of each
    warnings: tuple[str, ...] = Field(default=(), validation_alias="remarks", serialization_alias="remarks")
    interval_rule: str = ""  # over which clusters intervals are; empty in files of earlier versions
    scores: tuple[TaskAccuracy, ...]

    @property
    def not_scored_note(self) -> str:
        """How many pairs have no score, and the first of them; empty where all have one."""
        count = len(self.not_scored)
        return f"{count} pairs were not scored, the first {self.not_scored[0]}" if count else ""

    def updated_note(self, note: str) -> str:
        """The note of a run record with `not_scored_note` in place of that of former scores; the rest is kept."""
        others = [part for part in note.split("; ") if not _NOT_SCORED_NOTE.match(part)]
        return "; ".join(filter(None, (*others, self.not_scored_note)))


def write_scores_file(scores: ScoresFile, path: Path) -> None:
    """Write scores.json."""
    write_json(path, scores.model_dump(mode="json", by_alias=True))


def read_scores_file(path: Path) -> ScoresFile:
    """Read scores.json.

    Raises:
        UserError: the file is missing, or not of schema speechscale.scores/2.
    """
    return read_model(path, ScoresFile, SCHEMA)


def write_score_table(table: pl.DataFrame, path: Path) -> None:
    """Write the score table as Parquet."""
    buffer = BytesIO()
    table.select([pl.col(name).cast(kind) for name, kind in COLUMNS.items()]).write_parquet(buffer)
    write_file(path, buffer.getvalue())


def read_score_table(path: Path) -> pl.DataFrame:
    """Read a score table, with exactly the columns of `COLUMNS`; contrasts and templates are empty where it has none.

    Raises:
        UserError: the file is not a score table.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: not a score table ({error}).") from error
    unknown = [name for name in _CLUSTER_COLUMNS if name not in table.columns]
    table = table.with_columns(pl.lit("").alias(name) for name in unknown)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UserError(f"{path}: columns {', '.join(missing)} are missing from this score table.")
    return table.select(list(COLUMNS))
