"""Decoding of segments of audio files to mono float32 at 16 kHz, exact to the sample.

Seconds are converted to samples at the rate of the file, each boundary by itself (`time_to_sample`). Segments that
adjoin in seconds therefore adjoin in samples: none is decoded twice and none is lost. Each segment is resampled by
itself, with silence assumed beyond its boundaries. The few milliseconds next to a boundary, the length of the filter,
may therefore differ from the resampled whole file, and lengths are rounded to whole samples.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.speech.audio.containers import count_mp3_samples, find_truncation

# Seconds by which a list may exceed the end of a file: rounding, and what MP3 decoders trim.
END_TOLERANCE_SECONDS = 0.025
_BLOCK = 1 << 16  # samples per channel read at a time: memory does not grow with the length of the file
_UNKNOWN_LENGTH = 1 << 62  # libsndfile's count of samples exceeds this where the header states none
# Subtypes that store each sample by itself.
_SAMPLE_WISE_SUBTYPES = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_MP3_DELAY = (
    2 * 1152
)  # samples of two MP3 frames that may give no sound: the information frame and an unfinished one
# Errors of the machine, which say nothing about the file.
_MACHINE_ERRORS = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}


def resolve_inside(root: Path, name: str) -> Path:
    """The absolute path of `name`, relative to `root` or absolute, with links followed.

    Raises:
        SampleFault: the path leaves `root`, or cannot be a path.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise SampleFault("outside", f"{name} is outside {root}; name a folder that holds it with --root")
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, SampleFault):
            raise
        raise SampleFault("missing", f"{name!r} cannot be a path ({error}); correct it") from error
    return path


def time_to_sample(seconds: float, sample_rate: int) -> int:
    """The sample nearest to a time. The 1e-4 rounds a half up even where it is just below by a rounding error."""
    return math.floor(seconds * sample_rate + 0.5 + 1e-4)


class _ForwardOnlyFile(soundfile.SoundFile):  # type: ignore[misc] # soundfile has no types
    """A decoder that never seeks. soundfile seeks after every read, which moves lossy decoders."""

    def seekable(self) -> bool:
        return False


class Recording:
    """An audio file, or the bytes of one, open for reading segments. Use it in a `with` block.

    Seeking is exact where samples are stored by themselves (wav, flac). In mp3, ogg and opus libsndfile's seeks are
    wrong by up to the full scale, so these are decoded forward; segments read in order cost one decode of the file.

    Raises:
        SampleFault: missing, unreadable, truncated, or without any samples.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self.name = name
        self._source = source
        try:
            with _open_bytes(source) as stream:
                if not stream.read(1):
                    raise SampleFault("empty", f"{name}: zero bytes; copy it again")
                self._file = _open_decoder(source, name)
                self.num_samples: int = _verified_length(self._file, stream, name)  # per channel
        except OSError as error:
            raise _to_fault(error, name) from error
        self.sample_rate: int = self._file.samplerate
        self._position = 0  # of a forward-only decoder: a multiple of _BLOCK
        self._block: np.ndarray = np.zeros((0, self._file.channels), np.float32)  # the last one decoded

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the decoder."""
        self._file.close()

    def sample_range(self, offset: float, duration: float | None) -> tuple[int, int]:
        """Start (inclusive) and end (exclusive) of a segment, in samples at the rate of the file.

        Args:
            offset: start in seconds.
            duration: length in seconds; None: to the end. An end that exceeds the file by at most
                `END_TOLERANCE_SECONDS` is moved to the end of the file.

        Raises:
            SampleFault: the segment ends beyond the file, or holds no sample.
        """
        start = time_to_sample(offset, self.sample_rate)
        end = self.num_samples if duration is None else time_to_sample(offset + duration, self.sample_rate)
        if max(start, end) > self.num_samples + END_TOLERANCE_SECONDS * self.sample_rate:
            raise SampleFault(
                "beyond the end",
                f"{self.name}: the segment ends at {max(start, end) / self.sample_rate:.3f} s, "
                f"the file at {self.num_samples / self.sample_rate:.3f} s; correct offset and duration",
            )
        end = min(end, self.num_samples)
        if start >= end:
            raise SampleFault(
                "empty", f"{self.name}: no samples from {offset} s; correct offset and duration"
            )
        return start, end

    def iter_samples(self, start: int, end: int, channel: int | None = None) -> Iterator[np.ndarray]:
        """Mono blocks, float32 [samples], at the rate of the file: of one channel, or the mean of all.

        Raises:
            SampleFault: damaged, not finite, or without such a channel.
        """
        if channel is not None and channel >= self._file.channels:
            raise SampleFault(
                "no channel",
                f"{self.name}: has {self._file.channels} channels, wanted number {channel}; correct it",
            )
        blocks = (
            self._seek_and_read(start, end) if self._file.seekable() else self._decode_forward(start, end)
        )
        for block in blocks:
            mono = block.mean(axis=1) if channel is None else block[:, channel]
            if not np.isfinite(mono).all():
                raise SampleFault(
                    "not finite",
                    f"{self.name}: holds NaN or infinite samples; convert it again from its source",
                )
            yield mono

    def read_segment(
        self, offset: float = 0.0, duration: float | None = None, channel: int | None = None
    ) -> np.ndarray:
        """A segment as float32 [samples], mono at 16 kHz.

        Args:
            offset: start in seconds.
            duration: length in seconds; None: to the end.
            channel: the channel to read; None: the mean of all.

        Raises:
            SampleFault: as `sample_range` and `iter_samples`, or less than one sample at 16 kHz.
        """
        start, end = self.sample_range(offset, duration)
        blocks = self.iter_samples(start, end, channel)
        if self.sample_rate != SAMPLE_RATE:
            blocks = _resample(blocks, end - start, self.sample_rate)
        waveform = np.concatenate(list(blocks))
        if not len(waveform):
            raise SampleFault("empty", f"{self.name}: less than one sample at {SAMPLE_RATE} Hz; remove it")
        return waveform

    def _seek_and_read(self, start: int, end: int) -> Iterator[np.ndarray]:
        self._call_decoder(self._file.seek, start)
        for position in range(start, end, _BLOCK):
            yield self._read(min(_BLOCK, end - position))

    def _decode_forward(self, start: int, end: int) -> Iterator[np.ndarray]:
        if start < self._position - len(self._block):
            self._file.close()
            self._file = _open_decoder(self._source, self.name)
            self._position, self._block = 0, self._block[:0]
        while start < end:
            if start >= self._position:
                self._block = self._read(min(_BLOCK, self.num_samples - self._position))
                self._position += len(self._block)
                continue
            first = start - (self._position - len(self._block))
            part = self._block[first : first + end - start]
            yield part
            start += len(part)

    def _read(self, count: int) -> np.ndarray:
        """Exactly `count` samples, float32 [count, channels]."""
        block: np.ndarray = self._call_decoder(self._file.read, count, dtype="float32", always_2d=True)
        if len(block) < count:
            raise SampleFault(
                "corrupt", f"{self.name}: holds fewer samples than it states; copy or convert it again"
            )
        return block

    def _call_decoder(self, method: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        try:
            return method(*arguments, **keywords)
        except soundfile.LibsndfileError as error:
            raise SampleFault(
                "corrupt", f"{self.name}: cannot be decoded ({error.error_string}); copy or convert it again"
            ) from error


def load_audio(
    source: Path | bytes, offset: float = 0.0, duration: float | None = None, channel: int | None = None
) -> np.ndarray:
    """One segment of an audio file as float32 [samples], mono at 16 kHz.

    Args:
        source: the path of a file, or its bytes.
        offset: start in seconds.
        duration: length in seconds; None: to the end.
        channel: the channel to read; None: the mean of all.

    Raises:
        SampleFault: as `Recording` and `Recording.read_segment`.
    """
    with Recording(source, str(source) if isinstance(source, Path) else "audio in memory") as recording:
        return recording.read_segment(offset, duration, channel)


def _open_bytes(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    if source.exists() and not source.is_file():
        raise SampleFault(
            "missing", f"{source}: is a folder or a device, not a file; remove it or name the file"
        )
    return source.open("rb")


def _open_decoder(source: Path | bytes, name: str) -> soundfile.SoundFile:
    """A decoder at the start of a file. It is seekable only where seeking is exact."""
    try:
        file = soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source)
        if file.format != "FLAC" and not file.subtype.startswith(_SAMPLE_WISE_SUBTYPES):
            file.close()
            file = _ForwardOnlyFile(BytesIO(source) if isinstance(source, bytes) else source)
        return file
    except soundfile.LibsndfileError as error:
        raise SampleFault(
            "corrupt", f"{name}: cannot be read as audio ({error.error_string}); copy or convert it again"
        ) from error


def _verified_length(file: soundfile.SoundFile, stream: BinaryIO, name: str) -> int:
    """Samples per channel of the file.

    Raises:
        SampleFault: none, an unknown number, or fewer than the file states.
    """
    length: int = file.frames
    truncation = find_truncation(stream)
    counted = count_mp3_samples(stream) if file.format == "MP3" else None
    if counted is not None:  # then `length` is libsndfile's estimate, at which it stops decoding
        if length < counted - _MP3_DELAY:
            truncation = f"it does not state its length, and only {length} of {counted} samples can be read"
        length = min(length, counted)
    if truncation:
        raise SampleFault("cut short", f"{name}: {truncation}; copy or convert it again")
    if not length:
        raise SampleFault("empty", f"{name}: no samples; record it again or remove it")
    if length > _UNKNOWN_LENGTH:
        raise SampleFault("no length", f"{name}: its header does not state its length; re-encode it")
    return length


def _to_fault(error: OSError, name: str) -> SampleFault:
    """The fault of a file that cannot be opened. Errors of the machine are raised unchanged."""
    if error.errno in _MACHINE_ERRORS:
        raise error
    if error.errno == errno.ENOENT:
        return SampleFault("missing", f"{name}: no such file; restore it or correct the list")
    return SampleFault(
        "unreadable", f"{name}: cannot be opened ({error.strerror}); correct that or remove it"
    )


def _resample(blocks: Iterator[np.ndarray], count: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks of `count` samples in all, resampled to 16 kHz as one stream."""
    stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")
    for block in blocks:
        count -= len(block)
        yield stream.resample_chunk(np.ascontiguousarray(block), last=not count)
