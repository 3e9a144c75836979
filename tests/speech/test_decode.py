from itertools import pairwise

import numpy as np
import pytest
import soundfile

from speechscale.errors import SampleFault
from speechscale.speech.decode import decode


def ramp(count):
    return np.arange(count, dtype=np.float32) / count


def tone(rate, seconds, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    def written(samples, rate=16_000, name="a.wav", subtype="FLOAT"):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    return written


def test_a_whole_file_at_16_khz_is_read_as_it_is(write):
    samples = ramp(12_345)
    assert np.array_equal(decode(write(samples)), samples)


@pytest.mark.parametrize(
    ("offset", "duration", "first", "last"),
    [
        (0.0, 0.25, 0, 4000),
        (0.1, 0.2, 1600, 4800),
        (0.5, None, 8000, 16_000),
        (0.00003, 0.1, 0, 1600),
        (0.75, 0.25, 12_000, 16_000),
    ],
)
def test_segments_are_exact_to_the_sample(write, offset, duration, first, last):
    samples = ramp(16_000)
    assert np.array_equal(decode(write(samples), offset, duration), samples[first:last])


def test_adjoining_segments_make_up_the_file(write):
    samples = ramp(16_000)
    path, edges = write(samples), [0.0, 0.1, 0.3, 0.7, 1.0]
    parts = [decode(path, a, b - a) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), samples)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_to_the_same_sound(write, rate):
    heard = decode(write(tone(rate, 0.5), rate))
    assert heard.dtype == np.float32
    assert abs(len(heard) - 8000) <= 1
    inner = slice(800, 7200)  # away from the edges of the filter
    assert np.abs(heard[inner] - tone(16_000, 0.5)[inner]).max() < 0.01


def test_offsets_count_at_the_rate_of_the_file(write):
    heard = decode(write(tone(44_100, 1.0), 44_100), 0.5, 0.25)
    assert abs(len(heard) - 4000) <= 1


def test_stereo_becomes_its_mean(write):
    left, right = ramp(1000), -0.5 * ramp(1000)
    assert np.allclose(decode(write(np.stack([left, right], axis=1))), (left + right) / 2)


def test_flac_of_sixteen_bits_is_read(write):
    samples = tone(16_000, 0.1) / 2
    assert np.abs(decode(write(samples, name="a.flac", subtype="PCM_16")) - samples).max() < 1e-4


def fault(path, *segment):
    with pytest.raises(SampleFault) as caught:
        decode(path, *segment)
    assert str(path) in caught.value.detail
    return caught.value.reason


def test_missing(tmp_path):
    assert fault(tmp_path / "none.wav") == "missing"
    assert fault(tmp_path) == "missing"


@pytest.mark.parametrize(
    "content", [b"hello, this is no audio\n", b"RIFF\xff\xff\xff\xffWAVEfmt ", bytes(1000)]
)
def test_what_is_no_audio(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert fault(path) == "corrupt"


def test_a_flac_cut_short_in_its_frames(write):
    path = write(np.random.default_rng(0).uniform(-1, 1, 16_000), name="a.flac", subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:9000])
    assert fault(path) in {"corrupt", "beyond the end"}


def test_empty(write, tmp_path):
    (tmp_path / "b.wav").write_bytes(b"")
    assert fault(tmp_path / "b.wav") == "empty"
    assert fault(write(ramp(0))) == "empty"
    assert fault(write(ramp(100)), 100 / 16_000) == "empty"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(write, value):
    samples = ramp(100)
    samples[50] = value
    assert fault(write(samples)) == "not finite"


def test_beyond_the_end(write):
    path = write(ramp(16_000))
    assert fault(path, 0.5, 0.6) == "beyond the end"
    assert fault(path, 1.5) == "beyond the end"
