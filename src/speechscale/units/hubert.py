"""HuBERT as an encoder: one hidden state of a pretrained model, from a folder or a pinned revision of the hub.

How many frames an utterance gives depends on how it is cut and padded, and code bases differ. For mHuBERT-25Hz, which
sees 720 samples and moves by 640, sixty seconds give

- 1498 frames in chunks of 30 s (`chunk_seconds=30`): the released code of the scaling study, and the presets here;
- 1499 frames in chunks of 100 s (`chunk_seconds=100`): textlesslib and Spirit LM;
- 1500 frames whole, with 40 samples of silence at both ends (`chunk_seconds=0, padding=40`): slamkit.

Each chunk is heard by itself. What is left of an utterance and shorter than the 720 samples gives no frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.compute import ComputeOptions, Device, choose_device
from speechscale.errors import UserError
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import sha256_file

if TYPE_CHECKING:
    from transformers import HubertModel

    from speechscale.units.masked_hubert import MaskedHubert

WEIGHTS = "model.safetensors"
_LOOKAHEAD = 8  # batches: among so many utterances most have neighbours of nearly their own length


class HubertSpec(BaseModel):
    """Which hidden state of which HuBERT, and how audio is handed to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1)  # a folder in the layout of transformers, or a hub id
    revision: str | None = None  # commit of the hub; of a folder `sha256:` and the hash of its weights
    layer: int = Field(ge=0)  # of `hidden_states`: 0 is what enters the first transformer layer
    normalize: bool = False  # each utterance to mean 0 and variance 1
    chunk_seconds: float = Field(default=30.0, ge=0)  # 0: the whole utterance
    padding: int = Field(default=0, ge=0)  # samples of silence at both ends of the utterance

    @model_validator(mode="after")
    def _revision_pins(self) -> HubertSpec:
        if self.revision is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}|[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"revision {self.revision!r} pins nothing; wanted is a commit of the hub, 40 hexadecimal digits"
            )
        return self

    def pinned(self) -> HubertSpec:
        """This spec with the revision of a folder filled in, from its weights.

        Raises:
            UserError: no such folder, or it has no weights, or others than the revision says; a hub id without commit.
        """
        folder = Path(self.model)
        if folder.is_dir():
            return self._pinned_to(folder / WEIGHTS)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.model):
            raise UserError(
                f"{self.model}: no such folder, and not a hub id (owner/name); a HuBERT model is wanted."
            )
        if self.revision is None or self.revision.startswith("sha256:"):
            raise UserError(
                f"{self.model}: no such folder; if it is meant as a hub id, pin its revision: a commit, 40 hexadecimal "
                "digits (on the page of the model under Files, History)."
            )
        return self

    def _pinned_to(self, weights: Path) -> HubertSpec:
        for file in (weights, weights.with_name("config.json")):
            if not file.is_file():
                raise UserError(
                    f"{file.parent}: has no {file.name}; pickled weights are not opened. Save the model with "
                    "transformers' save_pretrained, which writes safetensors and config.json."
                )
        found = f"sha256:{sha256_file(weights)}"
        if self.revision not in (None, found):
            raise UserError(f"{weights}: other weights than before: found {found}, wanted {self.revision}.")
        return self.model_copy(update={"model": str(weights.parent.absolute()), "revision": found})


@dataclass(frozen=True)
class Preset:
    """A published encoder and the published k-means that belongs to it."""

    encoder: HubertSpec
    clusters: int
    kmeans: str  # file name
    kmeans_sha256: str


PRESETS = {
    # What the scaling study uses; k-means from dl.fbaipublicfiles.com/textless_nlp/twist/speech_tokenizer
    "mhubert-25hz-l11": Preset(
        HubertSpec(
            model="slprl/mhubert-base-25hz",
            revision="a319086e1d343190047d02b7f81133fb310c1b90",
            layer=11,
            normalize=False,
            chunk_seconds=30.0,
        ),
        clusters=500,
        kmeans="mhubert_base_25hz_cp_mls_cv_sp_fisher_L11_km500.bin",
        kmeans_sha256="03cc04a9c24fec4285e73e709c485756d8f116aa8e724eac555de6a7cf8d28ad",
    ),
}


class HubertEncoder:
    """Frames of one hidden state, the same whatever else is in the batch (to 1e-4 relative, in float32)."""

    name = "hubert"

    def __init__(self, spec: HubertSpec, computing: ComputeOptions) -> None:
        """Load the model.

        Raises:
            UserError: no such model, weights that do not fit it, no such layer or device.
        """
        self.spec, self._network = _load(spec, computing.device, computing.precision)
        self.rate = SAMPLE_RATE / self._network.stride
        self.dimension = self._network.dimension
        self.lookahead = _LOOKAHEAD * computing.batch_seconds
        self._batch = computing.batch_seconds * SAMPLE_RATE

    @property
    def identity(self) -> dict[str, Any]:
        """What a code book of these frames must agree on."""
        return {"name": self.name, **self.spec.model_dump()}

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each waveform, float32 [frames, dimension]."""
        chunks = [(place, chunk) for place, wave in enumerate(waveforms) for chunk in self._chunks(wave)]
        encoded = self._encode_by_length([chunk for _, chunk in chunks])
        parts: list[list[np.ndarray]] = [[np.empty((0, self.dimension), np.float32)] for _ in waveforms]
        for (place, _), frames in zip(chunks, encoded, strict=True):
            parts[place].append(frames)
        return [np.concatenate(part) for part in parts]

    def _chunks(self, waveform: np.ndarray) -> Iterator[np.ndarray]:
        """What is heard at once, normalised and padded; chunks too short for a frame are left out."""
        waveform = np.asarray(waveform, dtype=np.float32)
        if self.spec.normalize and len(waveform):
            # 1e-7 is that of transformers' feature extractor
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        waveform = np.pad(waveform, self.spec.padding)
        size = round(self.spec.chunk_seconds * SAMPLE_RATE) or max(len(waveform), 1)
        for start in range(0, len(waveform), size):
            if self._network.frames(len(chunk := waveform[start : start + size])):
                yield chunk

    def _encode_by_length(self, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each chunk; those of like length go in one batch."""
        encoded: list[np.ndarray] = [np.empty(0, np.float32)] * len(chunks)
        for batch in batches_by_length([len(chunk) for chunk in chunks], self._batch):
            frames = self._network([chunks[place] for place in batch])
            for place, found in zip(batch, frames, strict=True):
                encoded[place] = found
        return encoded


def batches_by_length(lengths: Sequence[int], capacity: float) -> Iterator[list[int]]:
    """Indices from long to short, so many at a time that count × longest stays within capacity; at least one."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > capacity:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@lru_cache(maxsize=1)  # a worker makes many shards with one model
def _load(spec: HubertSpec, device: Device, precision: str) -> tuple[HubertSpec, MaskedHubert]:
    import torch

    from speechscale.units.masked_hubert import MaskedHubert

    spec = spec.pinned()
    place = choose_device(device)
    model = _pretrained(spec)
    layers = model.config.num_hidden_layers
    if spec.layer > layers:
        raise UserError(f"{spec.model}: has no layer {spec.layer}; it has the hidden states 0 … {layers}.")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return spec, MaskedHubert(model, spec.layer, place, dtype)


def _pretrained(spec: HubertSpec) -> HubertModel:
    """The model in float32, every weight of it from the file.

    Raises:
        UserError: not there, not reachable, not a HuBERT, or weights that do not fit the configuration.
    """
    import torch
    from huggingface_hub.utils import logging as hub_logging
    from safetensors import SafetensorError
    from transformers import HubertConfig, HubertModel
    from transformers.utils import logging

    source: dict[str, Any] = {"pretrained_model_name_or_path": spec.model}
    if not Path(spec.model).is_dir():
        source["revision"] = spec.revision
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    try:
        kind = HubertConfig.get_config_dict(**source)[0].get("model_type")
        if kind != "hubert":
            raise UserError(f"{spec.model}: the model is of type {kind!r}, wanted 'hubert'.")
        loaded: Any = HubertModel.from_pretrained(
            **source,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, in one sentence
        )
    except UserError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        remedy = (
            "save it again with transformers' save_pretrained"
            if Path(spec.model).is_dir()
            else "where the hub is out of reach, download the model elsewhere and name its folder"
        )
        raise UserError(
            f"{spec.model}: cannot be loaded as a HuBERT model ({str(error).strip().splitlines()[0]}); {remedy}."
        ) from error
    model, loading = loaded
    _check_weights(spec.model, loading)
    return model


def _check_weights(model: str, loading: dict[str, Any]) -> None:
    """transformers fills missing weights at random and leaves unknown ones away; neither may pass in silence."""
    faults = {
        "missing": set(loading["missing_keys"]) - {"masked_spec_embed"},  # for training only
        "unknown": {
            key for key in loading["unexpected_keys"] if re.search(r"\b(encoder|feature_\w+)\.", key)
        },
        "of another size": {key for key, *_ in loading["mismatched_keys"]},
    }
    told = [f"{len(keys)} {fault} ({min(keys)} …)" for fault, keys in faults.items() if keys]
    if told:
        raise UserError(
            f"{model}: the weights do not fit config.json: {', '.join(told)}. Is the model whole, and is "
            "transformers at least 4.48, which knows conv_pos_batch_norm?"
        )
