"""One segment of an audio file as mono float32 at 16 kHz; and samples to a wav."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import write_file


def decode(path: Path, offset: float = 0.0, duration: float | None = None) -> np.ndarray:
    """Samples of `path` from `offset`, for `duration` seconds (None: to the end).

    Raises:
        SampleFault: missing, unreadable, empty, not finite, or shorter than the segment.
    """
    if not path.is_file():
        raise SampleFault("missing", f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            start = round(offset * rate)
            count = -1 if duration is None else round(duration * rate)
            if start + max(count, 0) > file.frames:
                raise SampleFault(
                    "beyond the end",
                    f"{path}: the segment ends at {(start + max(count, 0)) / rate:.3f} s, "
                    f"the file at {file.frames / rate:.3f} s",
                )
            file.seek(start)
            samples = file.read(count, dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, soundfile.LibsndfileError) as error:
        raise SampleFault("corrupt", f"{path}: cannot be read as audio ({error})") from error
    if len(samples) == 0:
        raise SampleFault("empty", f"{path}: no samples")
    if not np.isfinite(samples).all():
        raise SampleFault("not finite", f"{path}: holds NaN or infinite samples")
    resampled = samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE)
    if len(resampled) == 0:
        raise SampleFault("empty", f"{path}: less than one sample at {SAMPLE_RATE} Hz")
    return resampled


def write_wav(samples: np.ndarray, path: Path) -> None:
    """Mono samples at 16 kHz as a 16-bit wav, whole or not at all."""
    buffer = BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    write_file(path, buffer.getvalue())
