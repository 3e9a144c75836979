"""The HuBERT encoder: one hidden state of a pretrained model, from a folder or a pinned revision of the hub.

The number of frames of an utterance depends on chunking and padding, which differ between code bases. For
mHuBERT-25Hz, with a receptive field of 720 samples and a stride of 640, sixty seconds give

- 1498 frames in chunks of 30 s (`chunk_seconds=30`): the released code of the scaling study, and the presets here;
- 1499 frames in chunks of 100 s (`chunk_seconds=100`): textlesslib and Spirit LM;
- 1500 frames without chunks, with 40 samples of silence at both ends (`chunk_seconds=0, padding=40`): slamkit.

Each chunk is encoded separately. A last chunk shorter than 720 samples gives no frame.
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
from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import sha256_file

if TYPE_CHECKING:
    from transformers import HubertModel

    from speechscale.units.hubert_forward import HubertForward

WEIGHTS = "model.safetensors"
_BUFFERED_BATCHES = 8  # among the utterances of 8 batches, most have others of nearly the same length


class HubertSpec(BaseModel):
    """The model, the hidden state that is taken, and the preparation of the audio."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1)  # a folder written by save_pretrained, or a hub id
    revision: str | None = None  # commit of the hub; for a folder `sha256:` and the hash of its weights
    layer: int = Field(ge=0)  # index in `hidden_states`: 0 is the input of the first transformer layer
    normalize: bool = False  # each utterance to mean 0 and variance 1
    chunk_seconds: float = Field(default=30.0, ge=0)  # 0: the whole utterance
    padding: int = Field(default=0, ge=0)  # samples of silence at both ends of the utterance

    @model_validator(mode="after")
    def _check_revision(self) -> HubertSpec:
        if self.revision is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}|[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"revision {self.revision!r} is not pinned; wanted a commit of the hub, 40 hexadecimal digits"
            )
        return self

    def pinned(self) -> HubertSpec:
        """This spec with the revision filled in from the weights, where the model is a folder.

        Raises:
            UserError: no such folder, missing weights or weights of another revision; or a hub id without a commit.
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
class EncoderPreset:
    """A published encoder, and the file name and hash of the published k-means of its frames."""

    encoder: HubertSpec
    clusters: int
    kmeans: str
    kmeans_sha256: str


ENCODER_PRESETS = {
    # The encoder of the scaling study; k-means from dl.fbaipublicfiles.com/textless_nlp/twist/speech_tokenizer
    "mhubert-25hz-l11": EncoderPreset(
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
    """Frames of one hidden state, independent of the rest of the batch (to 1e-4 relative, in float32).

    See `Encoder` for the attributes.
    """

    name = "hubert"

    def __init__(self, spec: HubertSpec, compute: ComputeOptions) -> None:
        """Load the model.

        Raises:
            UserError: no such model, layer or device, or weights that do not fit the model.
        """
        self.spec, self._forward = _load(spec, compute.device, compute.precision)
        self.frame_rate = SAMPLE_RATE / self._forward.stride
        self.dimension = self._forward.dimension
        self.buffer_seconds = _BUFFERED_BATCHES * compute.batch_seconds
        self._batch_samples = compute.batch_seconds * SAMPLE_RATE

    @property
    def identity(self) -> JsonObject:
        """Name and every setting that frames depend on."""
        return {"name": self.name, **self.spec.model_dump()}

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each waveform, float32 [frames, dimension]."""
        chunks = [(index, chunk) for index, wave in enumerate(waveforms) for chunk in self._chunks(wave)]
        encoded = self._encode_by_length([chunk for _, chunk in chunks])
        parts: list[list[np.ndarray]] = [[np.empty((0, self.dimension), np.float32)] for _ in waveforms]
        for (index, _), frames in zip(chunks, encoded, strict=True):
            parts[index].append(frames)
        return [np.concatenate(part) for part in parts]

    def _chunks(self, waveform: np.ndarray) -> Iterator[np.ndarray]:
        """The chunks of the normalised and padded waveform, without those too short for a frame."""
        waveform = np.asarray(waveform, dtype=np.float32)
        if self.spec.normalize and len(waveform):
            # 1e-7 as in transformers' Wav2Vec2FeatureExtractor
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        waveform = np.pad(waveform, self.spec.padding)
        size = round(self.spec.chunk_seconds * SAMPLE_RATE) or max(len(waveform), 1)
        for start in range(0, len(waveform), size):
            if self._forward.frame_count(len(chunk := waveform[start : start + size])):
                yield chunk

    def _encode_by_length(self, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each chunk, computed in batches of similar length."""
        encoded: list[np.ndarray] = [np.empty(0, np.float32)] * len(chunks)
        for batch in batches_by_length([len(chunk) for chunk in chunks], self._batch_samples):
            for index, frames in zip(batch, self._forward([chunks[i] for i in batch]), strict=True):
                encoded[index] = frames
        return encoded


def batches_by_length(lengths: Sequence[int], capacity: float) -> Iterator[list[int]]:
    """Batches of indices in order of decreasing length, with count × longest within `capacity` or a single index."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > capacity:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@lru_cache(maxsize=1)  # a worker makes many shards with one model
def _load(spec: HubertSpec, device: Device, precision: str) -> tuple[HubertSpec, HubertForward]:
    import torch

    from speechscale.units.hubert_forward import HubertForward

    spec = spec.pinned()
    torch_device = choose_device(device)
    model = _load_pretrained(spec)
    layers = model.config.num_hidden_layers
    if spec.layer > layers:
        raise UserError(f"{spec.model}: has no layer {spec.layer}; it has the hidden states 0 … {layers}.")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return spec, HubertForward(model, spec.layer, torch_device, dtype)


def _load_pretrained(spec: HubertSpec) -> HubertModel:
    """The model in float32, with every weight loaded from the file.

    Raises:
        UserError: the model is missing, out of reach or not a HuBERT, or its weights do not fit the configuration.
    """
    import torch
    from huggingface_hub.utils import logging as hub_logging
    from safetensors import SafetensorError
    from transformers import HubertConfig, HubertModel
    from transformers.utils import logging

    source: JsonObject = {"pretrained_model_name_or_path": spec.model}
    if not Path(spec.model).is_dir():
        source["revision"] = spec.revision
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        kind = HubertConfig.get_config_dict(**source)[0].get("model_type")
        if kind != "hubert":
            raise UserError(f"{spec.model}: the model is of type {kind!r}, wanted 'hubert'.")
        loaded: Any = HubertModel.from_pretrained(
            **source,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # _check_weights names them in one sentence
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
    model: HubertModel = loaded[0]
    _check_weights(spec.model, loaded[1])
    return model


def _check_weights(model: str, loading: JsonObject) -> None:
    """Refuse what transformers accepts: it initialises missing weights at random and ignores unknown ones."""
    problems = {
        "missing": set(loading["missing_keys"]) - {"masked_spec_embed"},  # used in training only
        "unknown": {
            key for key in loading["unexpected_keys"] if re.search(r"\b(encoder|feature_\w+)\.", key)
        },
        "of another size": {key for key, *_ in loading["mismatched_keys"]},
    }
    found = [f"{len(keys)} {problem} ({min(keys)} …)" for problem, keys in problems.items() if keys]
    if found:
        raise UserError(
            f"{model}: the weights do not fit config.json: {', '.join(found)}. Check that the download is complete, "
            "and that transformers is at least 4.48, which supports conv_pos_batch_norm."
        )
