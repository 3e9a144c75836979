"""Writing of audio files: 16-bit samples, whole files only."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechscale.speech.audio.write import AudioFormat, to_audio_bytes, write_wav

WAVEFORM = np.sin(np.arange(1600) / 10).astype(np.float32)


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_audio_bytes_hold_16_bit_mono_at_16_khz(audio_format: AudioFormat) -> None:
    data = to_audio_bytes(WAVEFORM, audio_format)
    info = soundfile.info(BytesIO(data))
    assert (info.format, info.subtype) == (audio_format.upper(), "PCM_16")
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 1600)
    assert np.abs(soundfile.read(BytesIO(data))[0] - WAVEFORM).max() <= 2**-15


def test_formats_differ_by_rounding_only() -> None:
    wav, flac = (soundfile.read(BytesIO(to_audio_bytes(WAVEFORM, name)))[0] for name in ("wav", "flac"))
    assert np.abs(wav - flac).max() <= 2**-15


def test_wav_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    write_wav(WAVEFORM, path)
    assert path.read_bytes() == to_audio_bytes(WAVEFORM, "wav")
    assert list(tmp_path.iterdir()) == [path]
