"""Log-mel spectrogram frames at 25 Hz: the encoder that needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import scipy.fft
from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import SAMPLE_RATE


class MelSpec(BaseModel):
    """Settings of the log-mel spectrogram. By default it has the frame rate of mHuBERT-25Hz."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bands: int = Field(default=40, ge=1)
    window: int = Field(default=1024, ge=2)  # samples; 64 ms
    hop: int = Field(default=640, ge=1)  # samples; 25 frames a second
    lowest: float = Field(default=60.0, ge=0)  # Hz
    highest: float = Field(default=7600.0, gt=0)  # Hz
    floor: float = Field(default=1e-3, gt=0)  # added to the mel magnitude, so that silence has one value

    @model_validator(mode="after")
    def _check_window_and_band_edges(self) -> MelSpec:
        if self.window < self.hop:
            raise ValueError(f"window {self.window} must not be shorter than hop {self.hop}")
        if not self.lowest < self.highest <= SAMPLE_RATE / 2:
            raise ValueError(
                f"lowest {self.lowest} must be below highest {self.highest}, at most {SAMPLE_RATE // 2} Hz"
            )
        return self


class MelEncoder:
    """Frames of log-mel magnitudes; see `Encoder` for the attributes."""

    name = "mel"
    buffer_seconds = 0.0  # one waveform at a time is fastest

    def __init__(self, spec: MelSpec) -> None:
        self.spec = spec
        self.frame_rate = SAMPLE_RATE / spec.hop
        self.dimension = spec.bands

    @property
    def identity(self) -> JsonObject:
        """Name and every setting that frames depend on."""
        return {"name": self.name, **self.spec.model_dump()}

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each waveform, float32 [frames, bands]."""
        return [self.frames(waveform) for waveform in waveforms]

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Frames, float32 [frames, bands], of one waveform, float32 [samples] at 16 kHz.

        There are ceil(samples / hop) frames, the last padded with silence; frame i is centred on samples
        i*hop … (i+1)*hop.
        """
        spec = self.spec
        if not len(samples):
            return np.empty((0, spec.bands), dtype=np.float32)
        count = -(-len(samples) // spec.hop)
        margin = (spec.window - spec.hop) // 2
        padded = np.zeros((count - 1) * spec.hop + spec.window, dtype=np.float32)
        padded[margin : margin + len(samples)] = samples[: len(padded) - margin]
        frames = np.lib.stride_tricks.sliding_window_view(padded, spec.window)[:: spec.hop]
        spectrum = np.abs(scipy.fft.rfft(frames * hann(spec.window), axis=1))
        log_mel: np.ndarray = np.log(spectrum @ mel_filters(spec) + np.float32(spec.floor))
        return log_mel


@cache
def hann(length: int) -> np.ndarray:
    """The periodic Hann window, float32 [length]."""
    window: np.ndarray = np.hanning(length + 1)[:-1].astype(np.float32)
    return window


@cache
def mel_filters(spec: MelSpec) -> np.ndarray:
    """Triangular filters of sum 1, equally spaced in mel (O'Shaughnessy 1987); float32 [window/2 + 1, bands]."""
    edges = _mel_to_hertz(
        np.linspace(_hertz_to_mel(spec.lowest), _hertz_to_mel(spec.highest), spec.bands + 2)
    )
    bins = np.fft.rfftfreq(spec.window, 1 / SAMPLE_RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.clip(np.minimum(rising, falling), 0, None)
    filters: np.ndarray = (weights / np.maximum(weights.sum(axis=0), 1e-9)).astype(np.float32)
    return filters


def _hertz_to_mel(hertz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hertz / 700.0))


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
