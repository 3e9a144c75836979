"""Where utterances lie: the recording of each, a file below the root or a row of a Parquet file there."""

from __future__ import annotations

from pathlib import Path

from speechscale.records.manifest import Utterance
from speechscale.speech.decode import Recording, inside
from speechscale.speech.rows import AudioRows


class Sources:
    """Opens the recordings of utterances below a folder; use it in a `with` block.

    The last one stays open, because the next utterance often lies in it too, or in the next row.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._recording: tuple[tuple[str, int | None], Recording] | None = None
        self._rows: tuple[str, AudioRows] | None = None

    def recording(self, utterance: Utterance) -> Recording:
        """The recording that holds an utterance, which must name one.

        Raises:
            SampleFault: it lies outside the root, is missing, or cannot be read.
        """
        assert utterance.audio
        key = (utterance.audio, utterance.row)
        if self._recording is None or self._recording[0] != key:
            self.close_recording()
            self._recording = key, self._open(*key)
        return self._recording[1]

    def _open(self, audio: str, row: int | None) -> Recording:
        if row is None:
            return Recording(inside(self.root, audio), audio)
        if self._rows is None or self._rows[0] != audio:
            self._close_rows()
            self._rows = audio, AudioRows(inside(self.root, audio), audio)
        return Recording(self._rows[1].read(row), f"{audio}: row {row}")

    def close_recording(self) -> None:
        """Close the last one; a decoder that failed is not to be trusted with another segment."""
        if self._recording:
            self._recording[1].close()
        self._recording = None

    def _close_rows(self) -> None:
        if self._rows:
            self._rows[1].close()
        self._rows = None

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_recording()
        self._close_rows()
