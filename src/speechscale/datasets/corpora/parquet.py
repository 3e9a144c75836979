"""Parquet files that contain the audio, as speech data sets on the Hugging Face hub: one file or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechscale.datasets.corpora.folder import AUDIO_SUFFIXES, files_below
from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.splits import split_from_name
from speechscale.datasets.corpora.utterances import validated_utterance, with_measured_duration
from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip
from speechscale.speech.audio.decode import Recording, resolve_inside
from speechscale.speech.audio.parquet_audio import (
    audio_column,
    iter_audio_bytes,
    iter_row_group,
    open_parquet,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Our fields and the columns that hold them on the hub; the first column that exists is taken.
_COLUMNS = {
    "id": ("id", "utt_id", "utterance_id"),
    "transcript": ("text", "transcript", "transcription", "sentence", "raw_text", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "duration": ("duration",),
}
_ALIGNED_WORDS = "aligned_text"  # column of sTinyStories: a list of word, start_time, end_time


def matches(folder: Path) -> bool:
    """Whether the first file in the folder that could hold speech is Parquet."""
    files = files_below(folder, (".parquet", *AUDIO_SUFFIXES))
    first = next((file for file in files if isinstance(file, Path)), None)
    return first is not None and first.suffix == ".parquet"


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read an utterance per row; its split is that of the row, else of the file name, else of the nearest folder.

    Raises:
        UserError: there is no Parquet file.
    """
    files = [source.path] if source.path.is_file() else files_below(source.path, (".parquet",))
    is_empty = True
    for file in files:
        is_empty = False
        if isinstance(file, Skip):
            yield file
            continue
        try:
            audio = resolve_inside(source.root, str(file.absolute())).relative_to(source.root).as_posix()
            yield from _ParquetFile(source, file, audio).utterances()
        except SampleFault as fault:
            yield Skip(file.name, fault.reason, fault.detail)
    if is_empty:
        raise UserError(f"{source.path}: no .parquet files here.")


@dataclass(frozen=True)
class _Columns:
    """Which columns of a file are read."""

    plain: dict[str, str]  # column to field of `Utterance`, or to "" for a column that is kept in `extra`
    audio: str | None  # None: durations are trusted, so no audio is read

    @property
    def names(self) -> list[str]:
        return [*self.plain, *([self.audio] if self.audio else [])]


@dataclass(frozen=True)
class _ParquetFile:
    """One file of utterances."""

    source: CorpusSource
    path: Path
    audio: str  # path of the file in the manifest

    def utterances(self) -> Iterator[UtteranceOrSkip]:
        """Every row as an utterance.

        Raises:
            SampleFault: the file has no column of audio, or is no Parquet file.
        """
        with open_parquet(self.path) as file:
            try:
                audio = audio_column(file.schema_arrow)
            except UserError as error:
                raise SampleFault("no audio", f"{self.audio}: {error}") from error
            plain = _plain_columns(file.schema_arrow)
            has_durations = "duration" in plain.values() and self.source.trust_durations
            columns = _Columns(plain, None if has_durations else audio)
            start = 0
            for group in range(file.metadata.num_row_groups):
                rows = range(start, start + file.metadata.row_group(group).num_rows)
                yield from self._row_group(file.metadata, group, columns, rows)
                start = rows.stop

    def _row_group(
        self, metadata: pq.FileMetaData, group: int, columns: _Columns, rows: range
    ) -> Iterator[UtteranceOrSkip]:
        row = rows.start
        try:
            for batch in iter_row_group(self.path, metadata, group, columns.names):
                plain_values = batch.select(list(columns.plain)).to_pylist()
                audio = (
                    iter_audio_bytes(batch, columns.audio) if columns.audio else [None] * len(plain_values)
                )
                for values, data in zip(plain_values, audio, strict=True):
                    fields = self._utterance_fields(row, values, columns.plain)
                    yield self._utterance(row, fields, data, reads_audio=columns.audio is not None)
                    row += 1
        except SampleFault as fault:  # the group is damaged here: one skip for each row that is lost
            for lost in range(row, rows.stop):
                yield Skip(self._row_id(lost), fault.reason, f"{self.audio}: row {lost}: {fault.detail}")

    def _utterance(
        self, row: int, fields: Mapping[str, object], data: bytes | None, *, reads_audio: bool
    ) -> UtteranceOrSkip:
        def measure(utterance: Utterance) -> Utterance:
            if utterance.duration is not None and not reads_audio:
                return utterance
            if not data:
                raise SampleFault("no audio", "has no audio bytes; leave the row out")
            with Recording(data, "its audio") as recording:
                return with_measured_duration(recording, utterance, is_whole_file=True)

        return validated_utterance(f"{self.audio}: row {row}", fields, measure)

    def _utterance_fields(
        self, row: int, values: Mapping[str, object], columns: Mapping[str, str]
    ) -> dict[str, object]:
        present = {column: value for column, value in values.items() if value is not None}
        fields = {columns[column]: value for column, value in present.items() if columns[column]}
        for field in ("id", "speaker", "split"):
            if isinstance(fields.get(field), int):
                fields[field] = str(fields[field])
        split = str(fields.get("split") or "")
        return fields | {
            "id": f"{self.source.dataset}/{fields['id']}" if fields.get("id") else self._row_id(row),
            "dataset": self.source.dataset,
            "split": split_from_name(split) or split or self._split_of_file(),
            "audio": self.audio,
            "row": row,
            "extra": {column: value for column, value in present.items() if not columns[column]},
        }

    def _row_id(self, row: int) -> str:
        return f"{self.source.dataset}/{self.audio.removesuffix('.parquet')}/{row}"

    def _split_of_file(self) -> str:
        names = [self.path.stem, *reversed(Path(self.audio).parent.parts)]
        return next((split for name in names if (split := split_from_name(name))), TRAIN)


def _plain_columns(schema: pa.Schema) -> dict[str, str]:
    """Columns to keep, each with its field of `Utterance`, or "" for plain values and words that go into `extra`."""
    import pyarrow as pa

    fields = {}
    for field, names in _COLUMNS.items():
        for name in names:
            if name in schema.names:
                fields[name] = field
                break
    plain_types = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
    )
    kept = [
        column.name
        for column in schema
        if column.name == _ALIGNED_WORDS or any(is_type(column.type) for is_type in plain_types)
    ]
    return {name: fields.get(name, "") for name in kept}
