"""Log-mel frames: their number, their position in time, and the band of a tone."""

from __future__ import annotations

import numpy as np
import pytest

from speechscale.records.manifest import SAMPLE_RATE
from speechscale.units.mel import MelEncoder, MelSpec

ENCODER = MelEncoder(MelSpec())


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (1, 1), (640, 1), (641, 2), (16_000, 25), (16_001, 26)]
)
def test_frame_count_is_samples_over_hop_rounded_up(samples: int, frames: int) -> None:
    assert ENCODER.frames(np.ones(samples, dtype=np.float32)).shape == (frames, 40)


def test_tone_is_loudest_in_the_band_around_it() -> None:
    spec = MelSpec()
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    mel = 2595 * np.log10(1 + np.array([spec.lowest, spec.highest]) / 700)
    centres = 700 * (10 ** (np.linspace(*mel, spec.bands + 2)[1:-1] / 2595) - 1)
    for band in (10, 25, 35):
        frames = ENCODER.frames(np.sin(2 * np.pi * centres[band] * time).astype(np.float32))
        assert set(frames[5:20].argmax(axis=1)) == {band}


def test_silence_gives_the_log_of_the_floor() -> None:
    frames = ENCODER.frames(np.zeros(5000, dtype=np.float32))
    assert np.allclose(frames, np.log(MelSpec().floor))


def test_click_is_loudest_in_the_frame_centred_on_it() -> None:
    """Frame i is centred on samples i*hop … (i+1)*hop."""
    samples = np.zeros(10 * 640, dtype=np.float32)
    samples[4 * 640 + 320] = 1.0
    loudness = ENCODER.frames(samples).sum(axis=1)
    assert loudness.argmax() == 4
    assert loudness[3] == pytest.approx(loudness[5], rel=0.05)


def test_frames_do_not_depend_on_much_later_samples() -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(6400).astype(np.float32)
    # Not bit for bit: BLAS rounds the mel products differently for another number of frames.
    short = ENCODER.frames(samples[: 7 * 640])
    np.testing.assert_allclose(ENCODER.frames(samples)[:5], short[:5], rtol=1e-6)
