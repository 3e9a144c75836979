"""Decoding: exact segments of all formats, and faults in place of wrong audio."""

import resource
import subprocess
import sys
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import SampleFault
from speechscale.speech.audio.decode import Recording, load_audio, time_to_sample


def ramp(count):
    return np.arange(count, dtype=np.float32) / count


def tone(rate, seconds, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    def write_audio(samples, rate=16_000, name="a.wav", subtype="FLOAT"):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    return write_audio


def test_file_at_16_khz_is_read_unchanged(write):
    samples = ramp(12_345)
    assert np.array_equal(load_audio(write(samples)), samples)


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
    assert np.array_equal(load_audio(write(samples), offset, duration), samples[first:last])


def test_adjoining_segments_concatenate_to_the_file(write):
    samples = ramp(16_000)
    path, edges = write(samples), [0.0, 0.1, 0.3, 0.7, 1.0]
    parts = [load_audio(path, a, b - a) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), samples)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(write, rate):
    waveform = load_audio(write(tone(rate, 0.5), rate))
    assert waveform.dtype == np.float32
    assert abs(len(waveform) - 8000) <= 1
    inner = slice(800, 7200)  # away from the edges of the filter
    assert np.abs(waveform[inner] - tone(16_000, 0.5)[inner]).max() < 0.01


def test_offsets_are_converted_at_the_rate_of_the_file(write):
    waveform = load_audio(write(tone(44_100, 1.0), 44_100), 0.5, 0.25)
    assert abs(len(waveform) - 4000) <= 1


def test_stereo_is_averaged(write):
    left, right = ramp(1000), -0.5 * ramp(1000)
    assert np.allclose(load_audio(write(np.stack([left, right], axis=1))), (left + right) / 2)


def test_16_bit_flac_is_read(write):
    samples = tone(16_000, 0.1) / 2
    assert np.abs(load_audio(write(samples, name="a.flac", subtype="PCM_16")) - samples).max() < 1e-4


def fault_reason(path, *segment):
    with pytest.raises(SampleFault) as caught:
        load_audio(path, *segment)
    assert str(path) in caught.value.detail
    return caught.value.reason


def test_missing_file_and_folder_are_faults(tmp_path):
    assert fault_reason(tmp_path / "none.wav") == "missing"
    assert fault_reason(tmp_path) == "missing"


@pytest.mark.parametrize(
    "content", [b"hello, this is no audio\n", b"RIFF\xff\xff\xff\xffWAVEfmt ", bytes(1000)]
)
def test_non_audio_content_is_corrupt(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert fault_reason(path) == "corrupt"


def test_truncated_flac_is_a_fault(write):
    path = write(np.random.default_rng(0).uniform(-1, 1, 16_000), name="a.flac", subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:9000])
    assert fault_reason(path) in {"corrupt", "beyond the end"}


def test_empty_files_and_segments_are_faults(write, tmp_path):
    (tmp_path / "b.wav").write_bytes(b"")
    assert fault_reason(tmp_path / "b.wav") == "empty"
    assert fault_reason(write(ramp(0))) == "empty"
    assert fault_reason(write(ramp(100)), 100 / 16_000) == "empty"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_are_a_fault(write, value):
    samples = ramp(100)
    samples[50] = value
    assert fault_reason(write(samples)) == "not finite"


def test_segment_beyond_the_end_is_a_fault(write):
    path = write(ramp(16_000))
    assert fault_reason(path, 0.5, 0.6) == "beyond the end"
    assert fault_reason(path, 1.5) == "beyond the end"


FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-adpcm": ("WAV", "IMA_ADPCM"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def sweep(rate, seconds, channels=1):
    """A rising tone with noise: no two parts of it are alike."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.05, (len(time), channels))
    return (0.4 * np.sin(2 * np.pi * (200 + 100 * time) * time)[:, None] + noise).astype(np.float32)


def encoded(samples, rate, kind):
    buffer = BytesIO()
    container, subtype = FORMATS[kind]
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def decode_whole(data):
    """The whole file decoded from its start in one pass, checked against one read by soundfile.

    2e-7: soundfile queries the position first, which changes the last bit of libmpg123.
    """
    with Recording(data, "whole") as recording:
        once = read_range(recording, 0, recording.num_samples)
    assert np.allclose(
        once, soundfile.read(BytesIO(data), dtype="float32", always_2d=True)[0].mean(axis=1), 0, 2e-7
    )
    return once


def read_range(recording, start, end):
    return np.concatenate(list(recording.iter_samples(start, end)))


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("kind", FORMATS)
def test_segments_equal_those_of_a_full_decode(kind, rate):
    """libsndfile's own seeks are wrong by up to the full scale in Vorbis, MP3 and Opus."""
    data = encoded(sweep(rate, 7.03), rate, kind)
    full = decode_whole(data)
    rng = np.random.default_rng(1)
    starts = [0, 1, 1151, 1152, 65_535, 65_536, *rng.integers(0, len(full) - 3000, 12).tolist()]
    with Recording(data, "a") as recording:
        assert recording.num_samples == len(full)
        assert kind == "wav-adpcm" or len(full) == round(7.03 * rate)  # ADPCM fills its last block
        for start in starts:
            if start + 3000 <= len(full):
                # 2e-7: the last bit of libmpg123 depends on the size of the requested block
                assert (
                    np.abs(read_range(recording, start, start + 3000) - full[start : start + 3000]).max()
                    < 2e-7
                )
        forward = [read_range(recording, a, b) for a, b in pairwise([0, 5, 70_000 % rate, rate, len(full)])]
        once = read_range(recording, 0, len(full))
        assert np.array_equal(np.concatenate(forward), once)


@pytest.fixture(scope="module")
def recordings():
    """A file of each kind, two channels, at a rate that seconds do not divide."""
    rates = {"opus": 24_000, "wav24": 11_025}
    data = {
        kind: encoded(sweep(rates.get(kind, 22_050), 3.3, 2), rates.get(kind, 22_050), kind)
        for kind in FORMATS
    }
    return {kind: (Recording(one, kind), decode_whole(one)) for kind, one in data.items()}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(FORMATS)),
    edges=st.lists(st.floats(0.001, 3.299), min_size=0, max_size=6, unique=True),
)
def test_adjoining_segments_concatenate_at_any_rate(recordings, kind, edges):
    recording, full = recordings[kind]
    inner = sorted(edges)
    spans = [recording.sample_range(a, None if b is None else b - a) for a, b in pairwise([0.0, *inner, None])
             if b is None or round(a * recording.sample_rate) + 2 < round(b * recording.sample_rate)]  # fmt: skip
    if len(spans) <= len(inner):
        return  # two edges within one sample: an empty segment, which is a fault
    assert spans[0][0] == 0 and spans[-1][1] == len(full)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    parts = [read_range(recording, *span) for span in spans]
    assert np.array_equal(np.concatenate(parts), full)


@settings(max_examples=200)
@given(
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000]),
    lengths=st.lists(st.integers(1, 10**8), min_size=1, max_size=30),
)
def test_sample_positions_survive_conversion_to_seconds(rate, lengths):
    """Seconds in a manifest convert back to the same samples, hours into a file."""
    edges = np.cumsum([0, *lengths])
    for a, b in pairwise(edges.tolist()):
        offset, duration = a / rate, (b - a) / rate
        assert (time_to_sample(offset, rate), time_to_sample(offset + duration, rate)) == (a, b)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 192_000])
def test_streamed_resampling_equals_resampling_at_once(rate):
    samples = sweep(rate, 3.1)
    data = encoded(samples, rate, "wav-float")
    assert np.array_equal(load_audio(data), soxr.resample(samples[:, 0], rate, 16_000))


def test_end_within_the_tolerance_is_accepted(write):
    path = write(ramp(16_000))
    assert len(load_audio(path, 0.5, 0.52)) == 8000  # 20 ms beyond the end
    assert fault_reason(path, 0.5, 0.53) == "beyond the end"


def test_one_channel_is_selected(write):
    left, right = ramp(1000), -0.5 * ramp(1000)
    path = write(np.stack([left, right], axis=1))
    assert np.array_equal(load_audio(path, channel=1), right)
    assert fault_reason(path, 0.0, None, 2) == "no channel"


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
def test_truncated_file_is_a_fault(tmp_path, kind, kept):
    data = encoded(sweep(16_000, 6.0), 16_000, kind)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data[: round(kept * len(data))])
    assert fault_reason(path) in {"cut short", "corrupt"}


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus", "mp3"])
def test_damaged_middle_is_a_fault(tmp_path, kind):
    data = bytearray(encoded(sweep(16_000, 6.0), 16_000, kind))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    assert fault_reason(path) == "corrupt"


def test_wav_without_length_in_its_header_is_read(tmp_path):
    data = bytearray(encoded(sweep(16_000, 1.0), 16_000, "wav"))
    where = data.index(b"data") + 4
    data[where : where + 4] = b"\xff\xff\xff\xff"
    assert len(load_audio(bytes(data))) == 16_000


def test_mp3_of_unknown_length_is_not_read_partially(tmp_path):
    """libsndfile would estimate the length from the first frame and stop there: here at a third."""
    loud_then_silent = np.concatenate([sweep(16_000, 10.0), np.zeros((160_000, 1), np.float32)])
    data = bytearray(encoded(loud_then_silent, 16_000, "mp3"))
    assert len(load_audio(bytes(data))) == 320_000
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    data[tag : tag + 4] = bytes(4)
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    assert fault_reason(path) == "cut short"


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_constant_bit_rate_mp3_of_unknown_length_is_read(rate):
    """Its frames are counted: libsndfile's estimate is too long where only some frames are padded."""
    buffer = BytesIO()
    soundfile.write(
        buffer, sweep(rate, 10.0), rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5
    )
    data = bytearray(buffer.getvalue())
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    data[tag : tag + 4] = bytes(4)
    with Recording(bytes(data), "a") as recording:
        # besides the sound: the frame that held the length, and the padding of the encoder
        assert 0 < len(read_range(recording, 0, recording.num_samples)) - 10 * rate < 4 * 1152


def test_flac_of_unknown_length_is_a_fault(tmp_path):
    data = bytearray(encoded(sweep(16_000, 1.0), 16_000, "flac"))
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of total samples begin here
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    assert fault_reason(tmp_path / "a.flac") == "no length"


def test_pipe_is_a_fault(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.wav")
    assert fault_reason(tmp_path / "a.wav") == "missing"


def test_errors_of_the_machine_are_not_faults(write):
    path = write(ramp(100))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(path.open())
        with pytest.raises(OSError, match="Too many open files"):
            load_audio(path)
    finally:
        for file in held:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def write_silence(path, hours, rate, channels):
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for _ in range(round(60 * hours)):
            file.write(np.zeros((rate * 60, channels), np.int16))
    return path


def decode_in_new_process(path, *segment):
    """Samples decoded by a new process, and the growth of its peak memory in MiB."""
    code = (
        "import resource, sys; from pathlib import Path; from speechscale.speech.audio.decode import load_audio;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        f"before = peak(); n = len(load_audio(Path(sys.argv[1]), *{segment})); print(n, peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    samples, growth = done.stdout.split()
    return int(samples), float(growth)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_segment_of_a_long_file_is_read_without_the_rest(tmp_path, kind):
    path = write_silence(tmp_path / f"long.{kind}", 3, 8000, 1)  # 345 MB as float32
    samples, growth = decode_in_new_process(path, 3 * 3600 - 5, 2.0)
    assert samples == 32_000 and growth < 30


@pytest.mark.slow
def test_decoding_needs_little_more_memory_than_the_waveform(tmp_path):
    path = write_silence(tmp_path / "long.flac", 1, 48_000, 2)  # 1,380 MB as float32
    samples, growth = decode_in_new_process(path)
    assert samples == 3600 * 16_000
    assert growth < 2.2 * 4 * samples / 2**20  # the waveform and its blocks
