"""What every encoder is (name, frame rate, dimension, waveforms to frames), and the encoder of an identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.units.mel import MelEncoder, MelSpec


class Encoder(Protocol):
    """Mono float32 waveforms at 16 kHz to frames. What comes of one never depends on the others beside it."""

    name: str
    rate: float  # frames a second
    dimension: int  # of a frame
    lookahead: float  # seconds of audio that are best handed over at once

    @property
    def identity(self) -> dict[str, Any]:
        """Name and every setting that frames depend on: what a code book must agree with."""
        ...

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each waveform, float32 [frames, dimension]; none where it is shorter than a frame."""
        ...


@dataclass(frozen=True)
class Computing:
    """How to compute, as far as it is not what to compute."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # the second changes a few units; recorded in the shards
    )
    batch_seconds: float = 60.0  # of audio, padding included, in one pass of a neural encoder


DEFAULT_COMPUTING = Computing()


def load_encoder(identity: Mapping[str, Any], computing: Computing = DEFAULT_COMPUTING) -> Encoder:
    """The encoder of an identity.

    Raises:
        UserError: an encoder unknown here, or settings it does not have.
    """
    settings = dict(identity)
    name = settings.pop("name", None)
    if name != MelEncoder.name:
        raise UserError(f"the code book belongs to the encoder {name!r}; known here: {MelEncoder.name}.")
    try:
        return MelEncoder(MelSpec(**settings))
    except ValidationError as error:
        raise UserError(
            f"the encoder {name} cannot be made from {settings}: {error.errors()[0]['msg']}."
        ) from error
