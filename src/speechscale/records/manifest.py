"""Utterance and Manifest: what is to be heard, one JSON line an utterance.

The field names are those of the study's own manifest. An utterance either lies in a file
(`audio`, a path relative to the manifest's folder) or can be spoken again at any time from `synthesis`, because
synthetic speech is a function of (text, voice, seed) alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speechscale.errors import UserError
from speechscale.records.seal import write_file

SAMPLE_RATE = 16_000  # Hz; what every waveform that passes a door is sampled at


class Synthesis(BaseModel):
    """How to speak an utterance: everything its samples depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    voice: str
    words_per_minute: int
    seed: int
    phonemes: bool = False  # the transcript is phoneme mnemonics of the engine, not spelling


class Utterance(BaseModel):
    """One stretch of speech by one speaker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    split: str = Field(min_length=1)
    audio: str | None = None
    sample_rate: int | None = Field(default=None, gt=0)
    duration: float | None = Field(default=None, gt=0)  # seconds
    offset: float = Field(default=0.0, ge=0)  # seconds
    transcript: str | None = None
    speaker: str | None = None
    source_revision: str | None = None
    synthesis: Synthesis | None = None
    extra: dict[str, Any] = {}


def write_manifest(utterances: Iterable[Utterance], path: Path) -> int:
    """Write a manifest; returns the number of utterances.

    Raises:
        UserError: two utterances share an id.
    """
    seen: set[str] = set()
    lines = []
    for utterance in utterances:
        if utterance.id in seen:
            raise UserError(
                f"{path}: the id {utterance.id!r} occurs twice; ids must be unique in a manifest."
            )
        seen.add(utterance.id)
        lines.append(utterance.model_dump_json(exclude_defaults=True))
    write_file(path, "".join(line + "\n" for line in lines))
    return len(lines)


def read_manifest(path: Path) -> Iterator[Utterance]:
    """The utterances of a manifest, in order.

    Raises:
        UserError: naming file, line and field of what is wrong.
    """
    seen: set[str] = set()
    try:
        stream = Path(path).open(encoding="utf-8")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); a manifest (JSON Lines) is wanted."
        ) from error
    with stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            utterance = _parse(line, f"{path}:{number}")
            if utterance.id in seen:
                raise UserError(
                    f"{path}:{number}: the id {utterance.id!r} occurs a second time; ids must be unique."
                )
            seen.add(utterance.id)
            yield utterance


def _parse(line: str, where: str) -> Utterance:
    try:
        return Utterance.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a JSON object ({error.msg}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise UserError(f"{where}: {field}: {first['msg']}; found {first.get('input')!r}.") from error
