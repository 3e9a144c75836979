"""The records of a study folder: study.json (spec, facts, stage times) and samples.json (utterances to listen to)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity
from speechscale.records.seal import write_json
from speechscale.records.validation import first_fault

SCHEMA = "speechscale.study/1"
STUDY_FILE = "study.json"
SAMPLES_FILE = "samples.json"
Model = TypeVar("Model")


class _Record(BaseModel):
    """Fields that this version does not know are kept out, so that newer files stay readable."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")


class StudyFacts(_Record):
    """Counts of the corpus and its units, as the report shows them; None where the input shards do not tell."""

    audio_hours: float | None = None  # of training speech
    units: int | None = None  # of training speech, EOS included
    units_per_second: float | None = None
    vocabulary: int | None = None  # units, EOS and padding
    skipped: int | None = None  # training utterances
    word_types: int | None = None
    utterances: dict[str, int] | None = None  # by dataset
    items: dict[str, int] | None = None  # benchmark pairs by task
    voices_train: list[str] | None = None
    voices_unseen: list[str] | None = None


class StageTime(_Record):
    """The duration of one stage."""

    name: str
    seconds: float
    detail: str = ""


class StudyFile(_Record):
    """study.json: which study a folder holds. The spec is that of `study.spec.StudySpec`, as JSON."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    code: CodeIdentity | None = None  # that wrote the file
    name: str = ""
    title: str = ""
    question: str = ""
    spec: dict[str, JsonValue] = Field(default_factory=dict)
    facts: StudyFacts = StudyFacts()
    stages: list[StageTime] = Field(default_factory=list)


class AudioSample(_Record):
    """An utterance to listen to, with the units that the models read.

    Attributes:
        id: of the utterance.
        text: its transcript.
        voice: its speaker.
        seconds: duration of the audio.
        file: path of the wav, relative to the study folder.
        units: after collapsing repetitions.
    """

    id: str
    text: str | None = None
    voice: str | None = None
    seconds: float
    file: str
    units: list[int] = Field(default_factory=list)


def write_study_file(study: StudyFile, folder: Path) -> None:
    """Write study.json into a study folder."""
    content = study.model_dump(mode="json", by_alias=True)
    content["facts"] = study.facts.model_dump(mode="json", exclude_none=True)
    write_json(folder / STUDY_FILE, content)


def read_study_file(folder: Path) -> StudyFile:
    """Read study.json from a study folder.

    Raises:
        UserError: it is missing, not JSON, or not the record of a study.
    """
    return _read(folder / STUDY_FILE, TypeAdapter(StudyFile))


def write_samples_file(samples: list[AudioSample], folder: Path) -> None:
    """Write samples.json into a study folder."""
    write_json(folder / SAMPLES_FILE, [sample.model_dump(mode="json") for sample in samples])


def read_samples_file(folder: Path) -> list[AudioSample]:
    """Read samples.json from a study folder; empty when there is none.

    Raises:
        UserError: it is not JSON, or not a list of samples.
    """
    path = folder / SAMPLES_FILE
    return _read(path, TypeAdapter(list[AudioSample])) if path.exists() else []


def _read(path: Path, adapter: TypeAdapter[Model]) -> Model:
    try:
        return adapter.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}); `speechscale study run` makes a study folder."
        ) from error
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_fault(error, 'the file')}; run the study again to write the file again."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path}: is not JSON ({error}); run the study again to write the file again."
        ) from error
