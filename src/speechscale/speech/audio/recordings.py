"""Access to the recordings of utterances: files below a folder, or rows of Parquet files there."""

from __future__ import annotations

from pathlib import Path

from speechscale.records.manifest import Utterance
from speechscale.speech.audio.decode import Recording, resolve_inside
from speechscale.speech.audio.parquet_audio import ParquetAudioReader

_Key = tuple[str, int | None, str | None]  # file; row and column of a Parquet file


class RecordingCache:
    """Opens the recordings of utterances below a folder. Use it in a `with` block.

    The last recording stays open, because the next utterance is often in it, or in the next row or another column.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._last: tuple[_Key, Recording] | None = None
        self._readers: dict[tuple[str, str | None], ParquetAudioReader] = {}  # by (file, column), of one file

    def open(self, utterance: Utterance) -> Recording:
        """The recording that holds an utterance, which must name one.

        Raises:
            SampleFault: it is outside the root, is missing, or cannot be read.
        """
        assert utterance.audio
        key = (utterance.audio, utterance.row, utterance.column)
        if self._last is None or self._last[0] != key:
            self.close_last()
            self._last = key, self._open(*key)
        return self._last[1]

    def _open(self, audio: str, row: int | None, column: str | None) -> Recording:
        if row is None:
            return Recording(resolve_inside(self.root, audio), audio)
        if (audio, column) not in self._readers:
            if any(opened != audio for opened, _ in self._readers):
                self._close_readers()
            path = resolve_inside(self.root, audio)
            self._readers[audio, column] = ParquetAudioReader(path, audio, column)
        name = f"{audio}: row {row}" if column is None else f"{audio}: row {row}, {column}"
        return Recording(self._readers[audio, column].read(row), name)

    def close_last(self) -> None:
        """Close the last recording. Needed after a fault: the state of its decoder is unknown then."""
        if self._last:
            self._last[1].close()
        self._last = None

    def _close_readers(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def __enter__(self) -> RecordingCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_last()
        self._close_readers()
