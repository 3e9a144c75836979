"""Writing of waveforms as 16-bit audio files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import write_file

AudioFormat = Literal["wav", "flac"]


def to_audio_bytes(waveform: np.ndarray, audio_format: AudioFormat) -> bytes:
    """The content of a 16-bit audio file.

    Args:
        waveform: float32 [samples], mono at 16 kHz, in [-1, 1].
        audio_format: the container. libsndfile rounds to 16 bits differently for each: samples may differ by 2**-15.
    """
    buffer = BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, subtype="PCM_16", format=audio_format.upper())
    return buffer.getvalue()


def write_wav(waveform: np.ndarray, path: Path) -> None:
    """Write mono samples, float32 [samples] at 16 kHz, as a 16-bit wav file, atomically."""
    write_file(path, to_audio_bytes(waveform, "wav"))
