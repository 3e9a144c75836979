"""Units to sound: heard again, the sound has the units it was made of; durations are those of the shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.records.manifest import SAMPLE_RATE, Synthesis
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine
from speechscale.units.collapse import close, collapse
from speechscale.units.griffin_lim import mean_durations, mel_sound, stretch
from speechscale.units.kmeans import CodeBook, KMeansSpec, train_kmeans
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
def book(frames: list[np.ndarray]) -> CodeBook:
    return train_kmeans(np.concatenate(frames), KMeansSpec(clusters=50), ENCODER.identity)


def test_heard_again_nine_frames_in_ten_have_their_unit(frames: list[np.ndarray], book: CodeBook) -> None:
    """Measured: 97 to 98 %; chance would be the commonest unit's share."""
    same, chance = [], []
    for spoken in frames:
        units = book.assign(spoken)
        samples = mel_sound(units, book)
        assert len(samples) == len(units) * ENCODER.spec.hop and samples.dtype == np.float32
        assert np.isfinite(samples).all() and np.abs(samples).max() < 2
        same.append(book.assign(ENCODER.frames(samples)) == units)
        chance.append(np.bincount(units).max() / len(units))
    assert np.concatenate(same).mean() > 0.9 > 3 * max(chance)


def test_loudness_follows_the_frames(frames: list[np.ndarray], book: CodeBook) -> None:
    """The sound is as loud as the speech was, not scaled to some other level."""
    again = ENCODER.frames(mel_sound(book.assign(frames[0]), book))
    wanted = book.centroids[book.assign(frames[0])] * book.scale + book.mean
    assert np.abs(np.exp(again).mean() / np.exp(wanted).mean() - 1) < 0.2


def test_the_same_sound_each_time(frames: list[np.ndarray], book: CodeBook) -> None:
    units = book.assign(frames[0])[:30]
    assert np.array_equal(mel_sound(units, book), mel_sound(units, book))
    assert not np.array_equal(mel_sound(units, book), mel_sound(units, book, seed=1))


def test_one_frame_is_enough(book: CodeBook) -> None:
    assert len(mel_sound(np.array([3]), book)) == SAMPLE_RATE // 25


def sample(name: str, per_frame: list[int]) -> Sample:
    units, durations = close(*collapse(np.array(per_frame)), 4)
    return Sample(name, units, len(per_frame) / 25, {}, durations)


MADE = {
    "vocab_size": 6,
    "eos_token": 4,
    "pad_token": 5,
    "unit_extractor": {},
    "kmeans": {"name": "k", "sha256": "k"},
}


def test_mean_durations_by_hand(tmp_path: Path) -> None:
    samples = [sample("a", [0, 0, 0, 1, 0]), sample("b", [2, 2, 1, 1])]
    write_shard(tmp_path / "s" / "shard-0", samples, [], MADE)
    # unit 0: runs of 3 and 1; unit 1: 1 and 2; unit 2: 2; unit 3 never, so 9 frames in 5 runs.
    assert mean_durations(open_shards(tmp_path / "s")).tolist() == [2.0, 1.5, 2.0, 9 / 5]


def test_stretch_keeps_order_and_time() -> None:
    means = np.array([1.0, 1.5, 3.25, 0.2])
    units = np.array([0, 1, 2, 1, 3, 2, 1] * 20)
    frames = stretch(units, means)
    assert np.array_equal(collapse(frames)[0], units)
    assert abs(len(frames) - np.maximum(means, 1)[units].sum()) <= 0.5
    assert len(stretch(units, None)) == round(len(units) * 25 / 19)
    assert len(stretch(units[:0], None)) == 0


def test_shards_without_durations_say_so(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "shard-0", [Sample("a", np.array([1, 4]), 1.0, {})], [], MADE)
    with pytest.raises(UserError, match="keeps no durations"):
        mean_durations(open_shards(tmp_path / "s"))


@pytest.mark.parametrize("units", [[], [50], [-1]])
def test_units_that_the_book_does_not_have(book: CodeBook, units: list[int]) -> None:
    with pytest.raises(UserError, match="units of the code book's 50"):
        mel_sound(np.array(units, dtype=np.int64), book)


def test_another_encoders_book_is_refused(book: CodeBook) -> None:
    other = CodeBook(book.centroids, book.mean, book.scale, {"name": "hubert"})
    with pytest.raises(UserError, match="encoder 'hubert'; only units of 'mel'"):
        mel_sound(np.array([1]), other)
