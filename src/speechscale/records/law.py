"""The law file: every fitted law of a table of runs, as typed sections in a sealed JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity
from speechscale.records.forecast_sections import ForecastLaw
from speechscale.records.json_objects import read_schema_object
from speechscale.records.law_sections import (
    Check,
    EfficiencyRatio,
    EnvelopeDefinition,
    EnvelopeLaw,
    IsoflopLaw,
    Missing,
    MissingIsoflopLaw,
    Rows,
    Section,
    SingleEpochLaw,
)
from speechscale.records.repeated_sections import RepeatedLaw
from speechscale.records.revisions import made_by
from speechscale.records.score_law_sections import ScoreLaw
from speechscale.records.seal import sha256_json, write_file
from speechscale.records.validation import first_fault

SCHEMA = "speechscale.law/2"
LawName = Literal["single_epoch", "repeated", "envelope", "isoflop", "downstream", "efficiency"]
Resampling = Literal["noise", "runs"]
ForecastLawName = Literal["pooled", "additive"]


class FitOptions(Section):
    """Which laws are fitted and how; the defaults are those of `speechscale fit`."""

    laws: tuple[LawName, ...] = (
        "single_epoch",
        "repeated",
        "envelope",
        "isoflop",
        "downstream",
        "efficiency",
    )
    delta: float | None = None  # Huber's delta on ln L; None: from the residuals
    tied: bool = False  # alpha = beta
    fixed: dict[str, float] = Field(default_factory=dict)
    exhaustive: bool = False  # also descend from the 4,500 published starts
    bootstrap: int = 1000  # draws behind every interval
    resampling: Resampling = "noise"
    seed: int = 0
    envelope: EnvelopeDefinition = "budgets"
    scores: tuple[str, ...] = ()  # columns that are scores though nothing else says so
    chance: float | None = (
        None  # of scores whose chance is neither in the table nor known; None: it must be stated
    )
    ceiling: float | None = 1.0  # best score possible; None: fitted
    law: ForecastLawName = "pooled"  # what forecasts come from: the family, or the additive law alone


class SeriesLaw(Section):
    """Every law of one series; None: not asked for."""

    rows: Rows
    checks: list[Check]
    tokens_per_second: float | None = None
    single_epoch: SingleEpochLaw | Missing
    forecast: ForecastLaw | Missing | None = None
    repeated: RepeatedLaw | Missing | None = None
    envelope: EnvelopeLaw | Missing | None = None
    isoflop: IsoflopLaw | MissingIsoflopLaw | None = None
    downstream: dict[str, ScoreLaw | Missing] | Missing | None = None


class LawFile(Section):
    """Every law of every series of a table of runs."""

    options: FitOptions
    series: dict[str, SeriesLaw]
    efficiency: dict[str, dict[str, EfficiencyRatio | Missing]] | Missing  # by "one/other", then by score
    provenance: dict[str, JsonValue] | None = None  # of a study: its tables and options
    code: CodeIdentity | None = None  # that fitted the laws; None before the file is written
    revisions: dict[str, int] = Field(default_factory=dict)  # of the stage that fitted them


def write_law(law: LawFile, path: Path) -> None:
    """Write a law, sealed with the hash of its content. Arrays of numbers take one line each."""
    # What was not fitted is not in the file; what was fitted to None is.
    content = {"schema": SCHEMA, **made_by("fit"), **law.model_dump(exclude_unset=True, by_alias=True)}
    text = json.dumps(
        {**content, "sha256": sha256_json(content)}, indent=1, ensure_ascii=False, allow_nan=False
    )
    write_file(
        Path(path), re.sub(r"\[[\s\d.eE+,-]+\]", lambda array: re.sub(r"\s+", " ", array[0]), text) + "\n"
    )


def read_law(path: Path) -> LawFile:
    """Read a law file.

    Raises:
        UserError: not a law file, of another schema, or changed since it was written.
    """
    path = Path(path)
    again = "make it again with `speechscale fit`"
    content = read_schema_object(path, SCHEMA, kind="law file", remedy=again)
    written = content.pop("sha256", None)
    if written != sha256_json({"schema": SCHEMA, **content}):
        raise UserError(
            f"{path}: the content differs from its hash: it was changed after the fit, so its intervals no longer "
            f"belong to its numbers; {again}, or take the constants to `speechscale plan --published`."
        )
    try:
        return LawFile.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_fault(error, 'the whole')}; this is not the law file of this version; {again}."
        ) from None


def rounded(values: Iterable[float]) -> list[float]:
    """Numbers for the file, to five significant digits: far finer than any interval, and short."""
    return [float(f"{value:.5g}") for value in values]
