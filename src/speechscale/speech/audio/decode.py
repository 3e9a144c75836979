"""One segment of an audio file as mono float32 at 16 kHz, exact to the sample; and samples to a wav.

Seconds become samples at the rate of the file, each border by itself (`sample_at`), so that segments which adjoin in
seconds adjoin in samples: together they are the whole, none twice and none lost. What is resampled is resampled
segment by segment, with silence assumed beyond its borders: the few milliseconds next to a border, the reach of the
filter, may differ from the same stretch of the whole file resampled, and lengths are rounded to whole samples each.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.records.seal import write_file
from speechscale.speech.audio.containers import missing_bytes, mp3_frames

TOLERANCE = (
    0.025  # seconds that a list may be wrong about the end of a file: rounding, and what MP3 decoders trim
)
_BLOCK = 1 << 16  # samples a channel read at a time: memory stays flat however long the file
_UNKNOWN = 1 << 62  # libsndfile's count of samples where a header states none is above this
_SEEKS = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # subtypes that store each sample by itself
_DELAY = 2 * 1152  # samples of MP3 frames that need not give sound: one of information, one begun at the end
_NEVER_A_FAULT = {
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}  # the machine's


def inside(root: Path, name: str) -> Path:
    """The file that `name`, a path relative to `root` or an absolute one, leads to, links followed.

    Raises:
        SampleFault: it lies outside `root`, or cannot be a path.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise SampleFault(
                "outside", f"{name} lies outside {root}; name a folder that holds it with --root"
            )
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, SampleFault):
            raise
        raise SampleFault("missing", f"{name!r} cannot be a path ({error}); correct it") from error
    return path


def sample_at(seconds: float, rate: int) -> int:
    """The sample nearest to a time; the sliver keeps a half from falling either way by a rounding error."""
    return math.floor(seconds * rate + 0.5 + 1e-4)


class _Forward(soundfile.SoundFile):
    """A decoder that never seeks: soundfile seeks after every read to where it stands, which moves a lossy decoder."""

    def seekable(self) -> bool:
        return False


class Recording:
    """An audio file, or the bytes of one, open for reading segments; use it in a `with` block.

    Seeking is exact where samples are stored by themselves (wav, flac). In mp3, ogg and opus libsndfile's seeks are not
    (they differ from a full decode by up to the full scale), so these are decoded forward; segments taken in order
    cost one decode of the file altogether.

    Raises:
        SampleFault: missing, unreadable, cut short, or without any samples.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self.name = name
        self._source = source
        try:
            with _opened(source) as stream:
                if not stream.read(1):
                    raise SampleFault("empty", f"{name}: zero bytes; copy it again")
                self._file = _decoder(source, name)
                self.frames: int = _length(self._file, stream, name)
        except OSError as error:
            raise _fault_of(error, name) from error
        self.rate: int = self._file.samplerate
        self._at = 0  # where the decoder of a file without seeking stands: a multiple of _BLOCK
        self._block: np.ndarray = np.zeros((0, self._file.channels), np.float32)  # the last one it gave

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def span(self, offset: float, duration: float | None) -> tuple[int, int]:
        """First sample of a segment, and the one after its last; an end up to `TOLERANCE` too late is the file's end.

        Raises:
            SampleFault: the segment ends beyond the file, or holds no sample.
        """
        start = sample_at(offset, self.rate)
        end = self.frames if duration is None else sample_at(offset + duration, self.rate)
        if max(start, end) > self.frames + TOLERANCE * self.rate:
            raise SampleFault(
                "beyond the end",
                f"{self.name}: the segment ends at {max(start, end) / self.rate:.3f} s, "
                f"the file at {self.frames / self.rate:.3f} s; correct offset and duration",
            )
        end = min(end, self.frames)
        if start >= end:
            raise SampleFault(
                "empty", f"{self.name}: no samples from {offset} s; correct offset and duration"
            )
        return start, end

    def samples(self, start: int, end: int, channel: int | None = None) -> Iterator[np.ndarray]:
        """Mono float32 samples at the rate of the file, in pieces: one channel, or the mean of all.

        Raises:
            SampleFault: damaged, not finite, or without such a channel.
        """
        if channel is not None and channel >= self._file.channels:
            raise SampleFault(
                "no channel",
                f"{self.name}: has {self._file.channels} channels, wanted number {channel}; correct it",
            )
        for piece in self._stored(start, end) if self._file.seekable() else self._decoded(start, end):
            mono = piece.mean(axis=1) if channel is None else piece[:, channel]
            if not np.isfinite(mono).all():
                raise SampleFault(
                    "not finite",
                    f"{self.name}: holds NaN or infinite samples; convert it again from its source",
                )
            yield mono

    def segment(
        self, offset: float = 0.0, duration: float | None = None, channel: int | None = None
    ) -> np.ndarray:
        """Mono float32 at 16 kHz from `offset`, for `duration` seconds (None: to the end).

        Raises:
            SampleFault: as `span` and `samples`, or less than one sample at 16 kHz.
        """
        start, end = self.span(offset, duration)
        pieces = self.samples(start, end, channel)
        if self.rate != SAMPLE_RATE:
            pieces = _resampled(pieces, end - start, self.rate)
        waveform = np.concatenate(list(pieces))
        if not len(waveform):
            raise SampleFault("empty", f"{self.name}: less than one sample at {SAMPLE_RATE} Hz; remove it")
        return waveform

    def _stored(self, start: int, end: int) -> Iterator[np.ndarray]:
        self._decoding(self._file.seek, start)
        for position in range(start, end, _BLOCK):
            yield self._read(min(_BLOCK, end - position))

    def _decoded(self, start: int, end: int) -> Iterator[np.ndarray]:
        if start < self._at - len(self._block):
            self._file.close()
            self._file = _decoder(self._source, self.name)
            self._at, self._block = 0, self._block[:0]
        while start < end:
            if start >= self._at:
                self._block = self._read(min(_BLOCK, self.frames - self._at))
                self._at += len(self._block)
                continue
            first = start - (self._at - len(self._block))
            piece = self._block[first : first + end - start]
            yield piece
            start += len(piece)

    def _read(self, count: int) -> np.ndarray:
        """Exactly so many samples, [count, channels]."""
        block = self._decoding(self._file.read, count, dtype="float32", always_2d=True)
        if len(block) < count:
            raise SampleFault(
                "corrupt", f"{self.name}: holds fewer samples than it states; copy or convert it again"
            )
        return block

    def _decoding(self, do, *arguments, **keywords):
        try:
            return do(*arguments, **keywords)
        except soundfile.LibsndfileError as error:
            raise SampleFault(
                "corrupt", f"{self.name}: cannot be decoded ({error.error_string}); copy or convert it again"
            ) from error


def decode(
    source: Path | bytes, offset: float = 0.0, duration: float | None = None, channel: int | None = None
) -> np.ndarray:
    """One segment of a file, or of the bytes of one, as `Recording.segment` gives it."""
    with Recording(source, str(source) if isinstance(source, Path) else "audio in memory") as recording:
        return recording.segment(offset, duration, channel)


def write_wav(samples: np.ndarray, path: Path) -> None:
    """Mono samples at 16 kHz as a 16-bit wav, whole or not at all."""
    buffer = BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    write_file(path, buffer.getvalue())


def _opened(source: Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    if source.exists() and not source.is_file():
        raise SampleFault(
            "missing", f"{source}: is a folder or a device, not a file; remove it or name the file"
        )
    return source.open("rb")


def _decoder(source: Path | bytes, name: str) -> soundfile.SoundFile:
    """A decoder at the start of a file; it seeks only where that is exact."""
    try:
        file = soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source)
        if file.format != "FLAC" and not file.subtype.startswith(_SEEKS):
            file.close()
            file = _Forward(BytesIO(source) if isinstance(source, bytes) else source)
        return file
    except soundfile.LibsndfileError as error:
        raise SampleFault(
            "corrupt", f"{name}: cannot be read as audio ({error.error_string}); copy or convert it again"
        ) from error


def _length(file: soundfile.SoundFile, stream: BinaryIO, name: str) -> int:
    """Samples a channel that the file holds.

    Raises:
        SampleFault: none, an unknown number, or fewer than the file states.
    """
    frames, missing = file.frames, missing_bytes(stream)
    counted = mp3_frames(stream) if file.format == "MP3" else None
    if counted is not None:  # then the length is libsndfile's estimate, at which it stops
        if frames < counted - _DELAY:
            missing = f"it does not state its length, and only {frames} of {counted} samples can be read"
        frames = min(frames, counted)
    if missing:
        raise SampleFault("cut short", f"{name}: {missing}; copy or convert it again")
    if not frames:
        raise SampleFault("empty", f"{name}: no samples; record it again or remove it")
    if frames > _UNKNOWN:
        raise SampleFault("no length", f"{name}: its header does not state its length; re-encode it")
    return frames


def _fault_of(error: OSError, name: str) -> SampleFault:
    """The fault of a file that cannot be opened; what the machine is to blame for is raised as it is."""
    if error.errno in _NEVER_A_FAULT:
        raise error
    if error.errno == errno.ENOENT:
        return SampleFault("missing", f"{name}: no such file; restore it or correct the list")
    return SampleFault("unreadable", f"{name}: cannot be opened ({error.strerror}); mend that or remove it")


def _resampled(pieces: Iterator[np.ndarray], count: int, rate: int) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for piece in pieces:
        count -= len(piece)
        yield stream.resample_chunk(np.ascontiguousarray(piece), last=not count)
