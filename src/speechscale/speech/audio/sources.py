"""Where utterances lie: the recording of each, a file below the root or a row of a Parquet file there."""

from __future__ import annotations

from pathlib import Path

from speechscale.records.manifest import Utterance
from speechscale.speech.audio.decode import Recording, inside
from speechscale.speech.audio.rows import AudioRows

_Place = tuple[str, int | None, str | None]  # file; row and column of a Parquet file


class Sources:
    """Opens the recordings of utterances below a folder; use it in a `with` block.

    The last one stays open, because the next utterance often lies in it too, or in the next row or another column.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._recording: tuple[_Place, Recording] | None = None
        self._rows: dict[tuple[str, str | None], AudioRows] = {}  # by column, of one file

    def recording(self, utterance: Utterance) -> Recording:
        """The recording that holds an utterance, which must name one.

        Raises:
            SampleFault: it lies outside the root, is missing, or cannot be read.
        """
        assert utterance.audio
        key = (utterance.audio, utterance.row, utterance.column)
        if self._recording is None or self._recording[0] != key:
            self.close_recording()
            self._recording = key, self._open(*key)
        return self._recording[1]

    def _open(self, audio: str, row: int | None, column: str | None) -> Recording:
        if row is None:
            return Recording(inside(self.root, audio), audio)
        if (audio, column) not in self._rows:
            if any(opened != audio for opened, _ in self._rows):
                self._close_rows()
            self._rows[audio, column] = AudioRows(inside(self.root, audio), audio, column)
        where = f"{audio}: row {row}" if column is None else f"{audio}: row {row}, {column}"
        return Recording(self._rows[audio, column].read(row), where)

    def close_recording(self) -> None:
        """Close the last one; a decoder that failed is not to be trusted with another segment."""
        if self._recording:
            self._recording[1].close()
        self._recording = None

    def _close_rows(self) -> None:
        for rows in self._rows.values():
            rows.close()
        self._rows = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_recording()
        self._close_rows()
