"""Waveforms from log-mel units: encoding them gives the units again; durations follow the shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.records.manifest import SAMPLE_RATE, Synthesis
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine
from speechscale.units.codebook import Codebook
from speechscale.units.collapse import append_eos, collapse
from speechscale.units.griffin_lim import expand_units, mean_durations, mel_units_to_waveform
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

ENCODER = MelEncoder(MelSpec())
TEXT = (
    "Once upon a time there was a small boat that wanted to see the other side of the lake.",
    "The old fisherman laughed, but his daughter jumped in and pushed it away from the shore.",
    "In the evening they came back with a strange yellow bird and nobody asked them any questions.",
)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Log-mel frames of three sentences read aloud."""
    how = Synthesis(engine=ESPEAK, voice="en-us", words_per_minute=260, seed=0)
    with EspeakEngine() as espeak:
        spoken = list(espeak.synthesize_all([(text, how) for text in TEXT]))
    assert all(isinstance(waveform, np.ndarray) for waveform in spoken)
    return ENCODER.encode(spoken)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def book(frames: list[np.ndarray]) -> Codebook:
    return train_kmeans(np.concatenate(frames), KMeansSpec(clusters=50), ENCODER.identity)


def test_nine_frames_in_ten_have_the_same_unit_after_encoding_again(
    frames: list[np.ndarray], book: Codebook
) -> None:
    """Measured: 97 to 98 %; chance would be the commonest unit's share."""
    same, chance = [], []
    for spoken in frames:
        units = book.assign(spoken)
        samples = mel_units_to_waveform(units, book)
        assert len(samples) == len(units) * ENCODER.spec.hop and samples.dtype == np.float32
        assert np.isfinite(samples).all() and np.abs(samples).max() < 2
        same.append(book.assign(ENCODER.frames(samples)) == units)
        chance.append(np.bincount(units).max() / len(units))
    assert np.concatenate(same).mean() > 0.9 > 3 * max(chance)


def test_loudness_equals_that_of_the_speech(frames: list[np.ndarray], book: Codebook) -> None:
    """The waveform is not scaled to another level."""
    again = ENCODER.frames(mel_units_to_waveform(book.assign(frames[0]), book))
    wanted = book.centroids[book.assign(frames[0])] * book.scale + book.mean
    assert np.abs(np.exp(again).mean() / np.exp(wanted).mean() - 1) < 0.2


def test_seed_determines_the_waveform(frames: list[np.ndarray], book: Codebook) -> None:
    units = book.assign(frames[0])[:30]
    assert np.array_equal(mel_units_to_waveform(units, book), mel_units_to_waveform(units, book))
    assert not np.array_equal(mel_units_to_waveform(units, book), mel_units_to_waveform(units, book, seed=1))


def test_single_frame_is_synthesized(book: Codebook) -> None:
    assert len(mel_units_to_waveform(np.array([3]), book)) == SAMPLE_RATE // 25


def sample(name: str, per_frame: list[int]) -> Sample:
    units, durations = append_eos(*collapse(np.array(per_frame)), 4)
    return Sample(name, units, len(per_frame) / 25, {}, durations)


MADE = {
    "vocab_size": 6,
    "eos_token": 4,
    "pad_token": 5,
    "unit_extractor": {},
    "kmeans": {"name": "k", "sha256": "k"},
}


def test_mean_durations_equal_those_by_hand(tmp_path: Path) -> None:
    samples = [sample("a", [0, 0, 0, 1, 0]), sample("b", [2, 2, 1, 1])]
    write_shard(tmp_path / "s" / "shard-0", samples, [], MADE)
    # unit 0: runs of 3 and 1; unit 1: 1 and 2; unit 2: 2; unit 3 never, so 9 frames in 5 runs.
    assert mean_durations(open_shards(tmp_path / "s")).tolist() == [2.0, 1.5, 2.0, 9 / 5]


def test_expanded_units_keep_order_and_total_duration() -> None:
    means = np.array([1.0, 1.5, 3.25, 0.2])
    units = np.array([0, 1, 2, 1, 3, 2, 1] * 20)
    frames = expand_units(units, means)
    assert np.array_equal(collapse(frames)[0], units)
    assert abs(len(frames) - np.maximum(means, 1)[units].sum()) <= 0.5
    assert len(expand_units(units, None)) == round(len(units) * 25 / 19)
    assert len(expand_units(units[:0], None)) == 0


def test_shards_without_durations_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "shard-0", [Sample("a", np.array([1, 4]), 1.0, {})], [], MADE)
    with pytest.raises(UserError, match="has no durations"):
        mean_durations(open_shards(tmp_path / "s"))


@pytest.mark.parametrize("units", [[], [50], [-1]])
def test_units_outside_the_codebook_are_refused(book: Codebook, units: list[int]) -> None:
    with pytest.raises(UserError, match="wanted units of the codebook's 50"):
        mel_units_to_waveform(np.array(units, dtype=np.int64), book)


def test_codebook_of_another_encoder_is_refused(book: Codebook) -> None:
    other = Codebook(book.centroids, book.mean, book.scale, {"name": "hubert"})
    with pytest.raises(UserError, match="encoder 'hubert'; only units of 'mel'"):
        mel_units_to_waveform(np.array([1]), other)
