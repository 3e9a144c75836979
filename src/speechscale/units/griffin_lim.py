"""Waveforms from log-mel units: durations, spectra from the centroids, and phases by the Griffin-Lim algorithm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft

from speechscale.errors import UserError
from speechscale.records.shards import Shard
from speechscale.units.codebook import Codebook
from speechscale.units.mel import MelEncoder, MelSpec, hann, mel_filters

# Used where no shard has durations: in the study, 25 frames a second become 19 units after collapsing.
FRAMES_PER_UNIT = 25 / 19
_ITERATIONS = 32  # 97.6 % of frames of the output have the unit of the input; 97.5 % after 100 iterations
_MOMENTUM = 0.99  # of fast Griffin-Lim (Perraudin, Balazs & Sondergaard 2013)
_FRAMES_PER_HOP = 4  # synthesis frames per analysis frame, because analysis frames hardly overlap
_MIN_MAGNITUDE = 1e-6  # added to magnitudes before logarithms


def mean_durations(shards: Sequence[Shard]) -> np.ndarray:
    """Mean length of the runs of each unit in frames, float64 [units]; the overall mean where a unit never occurs.

    Raises:
        UserError: shards without durations.
    """
    count = shards[0].eos
    runs, frames = np.zeros(count), np.zeros(count)
    for shard in shards:
        if shard.durations is None:
            raise UserError(
                f"{shard.folder}: has no durations of its units; encode it with `speechscale encode`."
            )
        is_unit = shard.units != count  # not EOS
        runs += np.bincount(shard.units[is_unit], minlength=count)
        frames += np.bincount(shard.units[is_unit], weights=shard.durations[is_unit], minlength=count)
    return np.where(runs > 0, frames / np.maximum(runs, 1), frames.sum() / max(runs.sum(), 1))


def expand_units(units: np.ndarray, means: np.ndarray | None) -> np.ndarray:
    """Repeat each unit for its mean duration, so that the total is the sum of the means, rounded once.

    Args:
        units: int [units], collapsed.
        means: float64 [clusters], frames of each unit; None takes `FRAMES_PER_UNIT` for all.

    Returns:
        Units, int [frames]; each occurs at least once.
    """
    durations = np.full(len(units), FRAMES_PER_UNIT) if means is None else means[units]
    ends = np.rint(np.cumsum(np.maximum(durations, 1.0))).astype(int)
    return np.repeat(units, np.diff(ends, prepend=0))


def mel_units_to_waveform(units: np.ndarray, codebook: Codebook, seed: int = 0) -> np.ndarray:
    """Synthesize one unit per frame: a waveform, float32 at 16 kHz, `hop` samples per frame.

    The pseudo-inverse of the mel filters gives linear magnitudes from those of the centroids. Magnitudes between
    frames are interpolated geometrically. Phases are found by the algorithm of Griffin and Lim (1984).

    Raises:
        UserError: no units, units that the codebook does not have, or a codebook of another encoder.
    """
    if codebook.encoder.get("name") != MelEncoder.name:
        raise UserError(
            f"the codebook belongs to the encoder {codebook.encoder.get('name')!r}; only units of "
            f"{MelEncoder.name!r} can be synthesized without a vocoder."
        )
    if not len(units) or units.min() < 0 or units.max() >= len(codebook.centroids):
        raise UserError(
            f"wanted units of the codebook's {len(codebook.centroids)}; found {units[:9].tolist()}."
        )
    spec = MelSpec(**{key: value for key, value in codebook.encoder.items() if key != "name"})
    frames = codebook.centroids[units] * codebook.scale + codebook.mean
    mel = np.maximum(np.exp(frames) - spec.floor, 0.0)
    magnitudes = np.maximum(mel @ np.linalg.pinv(mel_filters(spec)), 0.0)
    factor = math.gcd(spec.hop, _FRAMES_PER_HOP)
    hop = spec.hop // factor
    samples = _griffin_lim(_interpolate(magnitudes, factor), hop, spec.window, seed)
    start = (spec.window - hop) // 2  # the padding before frame 0
    return samples[start : start + len(units) * spec.hop].astype(np.float32)


def _interpolate(magnitudes: np.ndarray, factor: int) -> np.ndarray:
    """`factor` frames for each, evenly spaced, interpolated in logarithms; [factor × frames, bins]."""
    position = np.clip((np.arange(len(magnitudes) * factor) + 0.5) / factor - 0.5, 0, len(magnitudes) - 1)
    before = position.astype(int)
    after = np.minimum(before + 1, len(magnitudes) - 1)
    fraction = (position - before)[:, None]
    logs = np.log(magnitudes + _MIN_MAGNITUDE)
    interpolated: np.ndarray = np.exp((1 - fraction) * logs[before] + fraction * logs[after])
    return interpolated


def _griffin_lim(magnitudes: np.ndarray, hop: int, window: int, seed: int) -> np.ndarray:
    """Samples whose spectrum approximates the magnitudes [frames, window/2 + 1], from seeded random phases."""
    turns = np.random.default_rng(seed).random(magnitudes.shape)
    phases, previous = np.exp(2j * np.pi * turns), np.zeros(magnitudes.shape, dtype=complex)
    for _ in range(_ITERATIONS):
        spectrum = _spectrum(_overlap_add(magnitudes * phases, hop, window), hop, window)
        extrapolated = spectrum + _MOMENTUM * (spectrum - previous)
        phases, previous = extrapolated / np.maximum(np.abs(extrapolated), 1e-12), spectrum
    return _overlap_add(magnitudes * phases, hop, window)


def _spectrum(samples: np.ndarray, hop: int, window: int) -> np.ndarray:
    """Complex [frames, window/2 + 1]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    spectrum: np.ndarray = scipy.fft.rfft(frames * hann(window), axis=1)
    return spectrum


def _overlap_add(spectrum: np.ndarray, hop: int, window: int) -> np.ndarray:
    """The samples whose windowed frames are closest to the spectrum in the least-squares sense."""
    frames = scipy.fft.irfft(spectrum, window, axis=1) * hann(window)
    samples = np.zeros((len(frames) - 1) * hop + window)
    weight = np.zeros_like(samples)
    for number, frame in enumerate(frames):
        samples[number * hop :][:window] += frame
        weight[number * hop :][:window] += hann(window) ** 2
    return samples / np.maximum(weight, 1e-3)  # at both ends windows sum to nearly zero
