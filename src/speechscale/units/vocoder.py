"""The CodeHiFiGAN vocoder: waveforms from HuBERT units, loaded from its published checkpoint format.

The generator of HiFi-GAN (Kong et al. 2020) on embedded units, with a predictor of unit durations (Polyak et al.
2021). Modules have the names of the checkpoint; weight norms are removed on loading.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from speechscale.errors import UserError
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import sha256_file

# dl.fbaipublicfiles.com/textless_nlp/twist/speech_tokenizer/hifigan_lj_mhubert_base_25hz.pt (one English voice)
PUBLISHED_SHA256 = "d88224e95c501e2cd59a6e4014753169cfe060fb7ade3cc0da03c809fef73b79"
_SLOPE = 0.1  # of leaky ReLUs, except the last, which has PyTorch's default
_LAST_SLOPE = 0.01


class DurationSpec(BaseModel):
    """Shape of the duration predictor: two convolutions that predict log(frames of a unit + 1)."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    encoder_embed_dim: int = Field(ge=1)
    var_pred_hidden_dim: int = Field(ge=1)
    var_pred_kernel_size: int = Field(ge=1)


class VocoderSpec(BaseModel):
    """The generator's part of the published config.json; settings of training are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    num_embeddings: int = Field(ge=1)
    embedding_dim: int = Field(ge=1)
    model_in_dim: int = Field(ge=1)
    upsample_initial_channel: int = Field(ge=2)
    upsample_rates: tuple[int, ...] = Field(min_length=1)
    upsample_kernel_sizes: tuple[int, ...] = Field(min_length=1)
    resblock_kernel_sizes: tuple[int, ...] = Field(min_length=1)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = Field(min_length=1)
    dur_predictor_params: DurationSpec
    sampling_rate: int

    @model_validator(mode="after")
    def _check_shapes(self) -> VocoderSpec:
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ValueError("upsample_rates and upsample_kernel_sizes differ in length")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_kernel_sizes and resblock_dilation_sizes differ in length")
        if self.model_in_dim != self.embedding_dim:
            raise ValueError(
                "model_in_dim differs from embedding_dim; vocoders of several speakers are not supported"
            )
        if self.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, wanted {SAMPLE_RATE}")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return int(np.prod(self.upsample_rates))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=each, padding=each * (kernel - 1) // 2)
            for each in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x_BCT = x_BCT + second(F.leaky_relu(first(F.leaky_relu(x_BCT, _SLOPE)), _SLOPE))
        return x_BCT


class _DurationPredictor(nn.Module):
    def __init__(self, spec: DurationSpec) -> None:
        super().__init__()
        dim, hidden, kernel = spec.encoder_embed_dim, spec.var_pred_hidden_dim, spec.var_pred_kernel_size
        self.conv1 = nn.Sequential(nn.Conv1d(dim, hidden, kernel, padding=(kernel - 1) // 2), nn.ReLU())
        self.ln1 = nn.LayerNorm(hidden)
        self.conv2 = nn.Sequential(nn.Conv1d(hidden, hidden, kernel, padding=(kernel - 1) // 2), nn.ReLU())
        self.ln2 = nn.LayerNorm(hidden)
        self.proj = nn.Linear(hidden, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Frames of each unit, int64 [B, T], at least one."""
        x_BTC = self.ln1(self.conv1(x_BCT).transpose(1, 2))
        x_BTC = self.ln2(self.conv2(x_BTC.transpose(1, 2)).transpose(1, 2))
        log_frames_BT: Tensor = self.proj(x_BTC)[..., 0]
        return (log_frames_BT.exp() - 1).round().clamp(min=1).long()


class Vocoder(nn.Module):
    """The generator: collapsed units to a waveform."""

    def __init__(self, spec: VocoderSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.upsample_initial_channel
        self.dict = nn.Embedding(spec.num_embeddings, spec.embedding_dim)
        self.conv_pre = nn.Conv1d(spec.model_in_dim, channels, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(spec.upsample_rates, spec.upsample_kernel_sizes, strict=True):
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            channels //= 2
            self.resblocks.extend(
                _ResidualBlock(channels, size, dilations)
                for size, dilations in zip(
                    spec.resblock_kernel_sizes, spec.resblock_dilation_sizes, strict=True
                )
            )
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)
        self.dur_predictor = _DurationPredictor(spec.dur_predictor_params)

    @torch.inference_mode()
    def synthesize(self, units: np.ndarray) -> np.ndarray:
        """The waveform, float32 [samples] at 16 kHz, of one sequence of collapsed units (int [units]) without EOS.

        Raises:
            UserError: no units, or units that the vocoder does not have.
        """
        if not len(units) or units.min() < 0 or units.max() >= self.spec.num_embeddings:
            raise UserError(
                f"wanted units of the vocoder's {self.spec.num_embeddings}; found {units[:9].tolist()}."
            )
        x_BCT = self.dict(torch.from_numpy(np.asarray(units, dtype=np.int64))[None]).transpose(1, 2)
        x_BCT = self.conv_pre(x_BCT.repeat_interleave(self.dur_predictor(x_BCT)[0], dim=2))
        branches = len(self.spec.resblock_kernel_sizes)
        for number, up in enumerate(self.ups):
            x_BCT = up(F.leaky_relu(x_BCT, _SLOPE))
            blocks = self.resblocks[number * branches : (number + 1) * branches]
            x_BCT = torch.stack([block(x_BCT) for block in blocks]).mean(dim=0)
        return torch.tanh(self.conv_post(F.leaky_relu(x_BCT, _LAST_SLOPE)))[0, 0].numpy()


def load_vocoder(checkpoint: Path, config: Path, sha256: str = PUBLISHED_SHA256) -> Vocoder:
    """The vocoder of a checkpoint `{"generator": weights}` and its config; nothing in the checkpoint is executed.

    Raises:
        UserError: another hash than `sha256`, an invalid config, or weights that do not fit it.
    """
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such vocoder checkpoint.")
    found = sha256_file(checkpoint)
    if found != sha256.lower():
        raise UserError(
            f"{checkpoint}: its SHA-256 is {found}, wanted {sha256}; download it again, or give the hash of the "
            "vocoder that you use."
        )
    vocoder = Vocoder(_read_config(config))
    weights = _without_weight_norm(_read_generator(checkpoint))
    try:
        vocoder.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{checkpoint}: the weights do not fit {config} ({error}).") from error
    return vocoder.eval()


def _read_config(path: Path) -> VocoderSpec:
    try:
        return VocoderSpec.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"]) or "the config"
        raise UserError(f"{path}: {key}: {fault['msg']}; the vocoder's own config.json is wanted.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}).") from error


def _read_generator(path: Path) -> dict[str, Tensor]:
    try:
        # weights_only admits tensors and plain values and executes nothing.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        generator = content["generator"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f'{path}: not a vocoder checkpoint {{"generator": weights}} ({error}).') from error
    if not isinstance(generator, dict) or not all(isinstance(each, Tensor) for each in generator.values()):
        raise UserError(f'{path}: "generator" holds values that are not weights.')
    return generator


def _without_weight_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace `weight_g` and `weight_v` by `weight` = g v / |v|, with the norm over all but the first dimension."""
    plain = {name: value for name, value in weights.items() if not name.endswith(("weight_g", "weight_v"))}
    for name in (name for name in weights if name.endswith("weight_v")):
        direction, size = weights[name], weights.get(name[:-1] + "g")
        if size is not None:
            norm = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.ndim - 1))
            plain[name.removesuffix("_v")] = size * direction / norm
    return plain
