"""What every encoder is (name, frame rate, dimension, waveforms to frames), and the encoder of an identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import UserError
from speechscale.units.hubert import PRESETS, HubertEncoder, HubertSpec
from speechscale.units.mel import MelEncoder, MelSpec

Spec = TypeVar("Spec", bound=BaseModel)


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


def load_encoder(identity: Mapping[str, Any], computing: ComputeOptions = DEFAULT_OPTIONS) -> Encoder:
    """The encoder of an identity.

    Raises:
        UserError: an encoder unknown here, settings it does not have, or a model that cannot be loaded.
    """
    spec = _spec(identity)
    return HubertEncoder(spec, computing) if isinstance(spec, HubertSpec) else MelEncoder(spec)


def choose_encoder(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of `mel`, of a preset, or of the HuBERT model in a folder or on the hub, with these settings.

    Raises:
        UserError: settings it does not have or that are missing, or a model that is not pinned.
    """
    if name == MelEncoder.name:
        return MelEncoder(_made(MelSpec, settings)).identity
    known = PRESETS[name].encoder.model_dump() if name in PRESETS else {"model": name}
    spec = _made(HubertSpec, {**known, **settings})
    return {"name": HubertEncoder.name, **spec.pinned().model_dump()}


def _spec(identity: Mapping[str, Any]) -> MelSpec | HubertSpec:
    settings = dict(identity)
    name = settings.pop("name", None)
    if name == MelEncoder.name:
        return _made(MelSpec, settings)
    if name == HubertEncoder.name:
        return _made(HubertSpec, settings)
    raise UserError(
        f"the code book belongs to the encoder {name!r}; known here: {MelEncoder.name}, {HubertEncoder.name}."
    )


def _made(kind: type[Spec], settings: Mapping[str, Any]) -> Spec:
    try:
        return kind(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        key = "".join(f"{part}: " for part in fault["loc"])
        raise UserError(
            f"the encoder cannot be made from {dict(settings)}: {key}{fault['msg'].removeprefix('Value error, ')}."
        ) from error
