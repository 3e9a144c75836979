"""The interface of encoders, and the encoder of an identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.units.hubert import ENCODER_PRESETS, HubertEncoder, HubertSpec
from speechscale.units.mel import MelEncoder, MelSpec

Spec = TypeVar("Spec", bound=BaseModel)


class Encoder(Protocol):
    """Maps mono float32 waveforms at 16 kHz to frames, each waveform independently of the others in the batch.

    Attributes:
        name: kind of the encoder.
        frame_rate: in Hz.
        dimension: of a frame.
        buffer_seconds: seconds of audio to pass to one call of `encode` for the best speed.
    """

    name: str
    frame_rate: float
    dimension: int
    buffer_seconds: float

    @property
    def identity(self) -> JsonObject:
        """Name and every setting that frames depend on; a codebook applies to one identity."""
        ...

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each waveform, float32 [frames, dimension]; no frames where it is too short for one."""
        ...


def load_encoder(identity: Mapping[str, Any], compute: ComputeOptions = DEFAULT_OPTIONS) -> Encoder:
    """The encoder of an identity.

    Raises:
        UserError: an unknown encoder, unknown settings, or a model that cannot be loaded.
    """
    spec = _spec_of(identity)
    return HubertEncoder(spec, compute) if isinstance(spec, HubertSpec) else MelEncoder(spec)


def encoder_identity(name: str, settings: Mapping[str, Any]) -> JsonObject:
    """The identity of an encoder, with its model pinned to a revision.

    Args:
        name: `mel`, the name of a preset, or a HuBERT model (a folder or a hub id).
        settings: fields of `MelSpec` or `HubertSpec` that differ from the preset or the default.

    Raises:
        UserError: settings that are unknown or missing, or a model that is not pinned.
    """
    if name == MelEncoder.name:
        return MelEncoder(_validate(MelSpec, settings)).identity
    preset = ENCODER_PRESETS[name].encoder.model_dump() if name in ENCODER_PRESETS else {"model": name}
    spec = _validate(HubertSpec, {**preset, **settings})
    return {"name": HubertEncoder.name, **spec.pinned().model_dump()}


def _spec_of(identity: Mapping[str, Any]) -> MelSpec | HubertSpec:
    settings = dict(identity)
    name = settings.pop("name", None)
    if name == MelEncoder.name:
        return _validate(MelSpec, settings)
    if name == HubertEncoder.name:
        return _validate(HubertSpec, settings)
    raise UserError(
        f"the codebook belongs to the encoder {name!r}; known here: {MelEncoder.name}, {HubertEncoder.name}."
    )


def _validate(kind: type[Spec], settings: Mapping[str, Any]) -> Spec:
    try:
        return kind(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        key = "".join(f"{part}: " for part in fault["loc"])
        raise UserError(
            f"the encoder cannot be made from {dict(settings)}: {key}{fault['msg'].removeprefix('Value error, ')}."
        ) from error
