"""Checks of containers: truncation of wav and Ogg, and the length of MP3s that do not state it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import soundfile

from speechscale.speech.audio.containers import count_mp3_samples, find_truncation


def encode(container: str, subtype: str | None = None, **options: object) -> bytes:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    buffer = BytesIO()
    soundfile.write(buffer, noise, 16_000, format=container, subtype=subtype, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncation_is_found_and_complete_files_pass(container: str, subtype: str, share: float) -> None:
    data = encode(container, subtype)
    assert find_truncation(BytesIO(data)) is None
    assert find_truncation(BytesIO(data[: round(share * len(data))]))


def test_truncated_wav_is_described_in_bytes() -> None:
    data = encode("WAV", "PCM_16")
    assert find_truncation(BytesIO(data[:-10])) == "it holds 63990 of the 64000 bytes of samples it states"


def test_other_formats_are_not_checked() -> None:
    assert find_truncation(BytesIO(encode("FLAC")[:100])) is None
    assert find_truncation(BytesIO(b"")) is None


def test_mp3_samples_are_counted_only_where_no_length_is_stated() -> None:
    data = bytearray(encode("MP3", bitrate_mode="CONSTANT", compression_level=0.5))
    assert count_mp3_samples(BytesIO(data)) is None
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    data[tag : tag + 4] = bytes(4)
    samples = count_mp3_samples(BytesIO(data))
    assert samples is not None and 0 < samples - 32_000 < 4 * 1152
    tagged = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + data  # an ID3 header of 128 bytes
    assert count_mp3_samples(BytesIO(tagged)) == samples
