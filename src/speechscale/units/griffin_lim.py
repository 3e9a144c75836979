"""Log-mel units back to sound: how long each lasts, the spectrum of its centroid, and phases by Griffin and Lim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft

from speechscale.errors import UserError
from speechscale.records.shards import Shard
from speechscale.units.kmeans import CodeBook
from speechscale.units.mel import MelEncoder, MelSpec, hann, mel_filters

# Where no shard says how long units last: the study's 25 frames a second leave 19 units after the collapse.
FRAMES_PER_UNIT = 25 / 19
_ROUNDS = 32  # of Griffin-Lim; heard again, 97.6 % of frames have their unit, and 97.5 % after 100 rounds
_MOMENTUM = 0.99  # of the fast version (Perraudin, Balazs & Sondergaard 2013)
_FINER = 4  # steps of the synthesis in one of the analysis, whose frames hardly overlap
_QUIET = 1e-6  # added to magnitudes before logarithms


def mean_durations(shards: Sequence[Shard]) -> np.ndarray:
    """How many frames a run of each unit lasts on average, float64 [units]; the overall mean for one that never occurs.

    Raises:
        UserError: shards that kept no durations.
    """
    count = shards[0].preprocessing["eos_token"]
    runs, frames = np.zeros(count), np.zeros(count)
    for shard in shards:
        if shard.durations is None:
            raise UserError(
                f"{shard.folder}: keeps no durations of its units; encode it with `speechscale encode`."
            )
        said = shard.units != count
        runs += np.bincount(shard.units[said], minlength=count)
        frames += np.bincount(shard.units[said], weights=shard.durations[said], minlength=count)
    return np.where(runs > 0, frames / np.maximum(runs, 1), frames.sum() / max(runs.sum(), 1))


def stretch(units: np.ndarray, means: np.ndarray | None) -> np.ndarray:
    """Every unit as often as it lasts, at least one frame, so that the whole lasts what the means add up to.

    Without `means` every unit lasts FRAMES_PER_UNIT. What rounding takes from one unit goes to the next.
    """
    lasts = np.full(len(units), FRAMES_PER_UNIT) if means is None else means[units]
    ends = np.round(np.cumsum(np.maximum(lasts, 1.0))).astype(int)
    return np.repeat(units, np.diff(ends, prepend=0))


def mel_sound(units: np.ndarray, book: CodeBook, seed: int = 0) -> np.ndarray:
    """Sound of a unit for every frame, float32 at 16 kHz, hop samples a frame.

    The centroid's mel magnitudes go to linear ones by the pseudo-inverse of the filters; between frames magnitudes
    move geometrically, and Griffin and Lim (1984) find phases that agree with them.

    Raises:
        UserError: no units, units that the code book does not have, or a code book of another encoder.
    """
    if book.encoder.get("name") != MelEncoder.name:
        raise UserError(
            f"the code book belongs to the encoder {book.encoder.get('name')!r}; only units of "
            f"{MelEncoder.name!r} are turned into sound without a vocoder."
        )
    if not len(units) or units.min() < 0 or units.max() >= len(book.centroids):
        raise UserError(
            f"units of the code book's {len(book.centroids)} are wanted; found {units[:9].tolist()}."
        )
    spec = MelSpec(**{key: value for key, value in book.encoder.items() if key != "name"})
    frames = book.centroids[units] * book.scale + book.mean
    mel = np.maximum(np.exp(frames) - spec.floor, 0.0)
    magnitudes = np.maximum(mel @ np.linalg.pinv(mel_filters(spec)), 0.0)
    parts = math.gcd(spec.hop, _FINER)
    hop = spec.hop // parts
    samples = _griffin_lim(_between(magnitudes, parts), hop, spec.window, seed)
    first = (spec.window - hop) // 2  # of the padding before frame 0
    return samples[first : first + len(units) * spec.hop].astype(np.float32)


def _between(magnitudes: np.ndarray, parts: int) -> np.ndarray:
    """`parts` frames for each, evenly spaced around its centre, interpolated in logarithms."""
    place = np.clip((np.arange(len(magnitudes) * parts) + 0.5) / parts - 0.5, 0, len(magnitudes) - 1)
    before = place.astype(int)
    after = np.minimum(before + 1, len(magnitudes) - 1)
    share = (place - before)[:, None]
    logs = np.log(magnitudes + _QUIET)
    return np.exp((1 - share) * logs[before] + share * logs[after])


def _griffin_lim(magnitudes: np.ndarray, hop: int, window: int, seed: int) -> np.ndarray:
    """Samples whose spectrum has nearly these magnitudes [frames, window/2 + 1], from seeded random phases."""
    turns = np.random.default_rng(seed).random(magnitudes.shape)
    phases, previous = np.exp(2j * np.pi * turns), np.zeros(magnitudes.shape, dtype=complex)
    for _ in range(_ROUNDS):
        found = _spectrum(_overlap_add(magnitudes * phases, hop, window), hop, window)
        ahead = found + _MOMENTUM * (found - previous)
        phases, previous = ahead / np.maximum(np.abs(ahead), 1e-12), found
    return _overlap_add(magnitudes * phases, hop, window)


def _spectrum(samples: np.ndarray, hop: int, window: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    return scipy.fft.rfft(frames * hann(window), axis=1)


def _overlap_add(spectrum: np.ndarray, hop: int, window: int) -> np.ndarray:
    """The samples whose windowed frames come closest to the spectrum in the least-squares sense."""
    frames = scipy.fft.irfft(spectrum, window, axis=1) * hann(window)
    samples = np.zeros((len(frames) - 1) * hop + window)
    weight = np.zeros_like(samples)
    for number, frame in enumerate(frames):
        samples[number * hop :][:window] += frame
        weight[number * hop :][:window] += hann(window) ** 2
    return samples / np.maximum(weight, 1e-3)  # at both ends no frame has weight enough
