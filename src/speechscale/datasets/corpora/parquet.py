"""Parquet with the audio inside, as speech sets lie on the Hugging Face hub: one file, or a folder of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechscale.datasets.corpora.entries import TRAIN, Corpus, Entry, as_entry, measured
from speechscale.datasets.corpora.folder import AUDIO, files_below
from speechscale.datasets.corpora.splits import split_of
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

# our fields, and the columns that hold them on the hub; the first that is there
_COLUMNS = {
    "id": ("id", "utt_id", "utterance_id"),
    "transcript": ("text", "transcript", "transcription", "sentence", "raw_text", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "duration": ("duration",),
}
_WORDS = "aligned_text"  # of sTinyStories: a list of word, start_time, end_time


def looks_like_one(folder: Path) -> bool:
    """Whether the first file that could hold speech is Parquet."""
    files = files_below(folder, (".parquet", *AUDIO))
    first = next((file for file in files if isinstance(file, Path)), None)
    return first is not None and first.suffix == ".parquet"


def read(corpus: Corpus) -> Iterator[Entry]:
    """An utterance a row. Its split is that of the row, of the file's name, or of the nearest folder named so.

    Raises:
        UserError: no Parquet file there.
    """
    files = [corpus.path] if corpus.path.is_file() else files_below(corpus.path, (".parquet",))
    found = False
    for file in files:
        found = True
        if isinstance(file, Skip):
            yield file
            continue
        try:
            audio = resolve_inside(corpus.root, str(file.absolute())).relative_to(corpus.root).as_posix()
            yield from _Rows(corpus, file, audio).entries()
        except SampleFault as fault:
            yield Skip(file.name, fault.reason, fault.detail)
    if not found:
        raise UserError(f"{corpus.path}: no .parquet files here.")


@dataclass(frozen=True)
class _Rows:
    """The rows of one file."""

    corpus: Corpus
    path: Path
    audio: str  # its path in the manifest

    def entries(self) -> Iterator[Entry]:
        with open_parquet(self.path) as file:
            try:
                sound = audio_column(file.schema_arrow)
            except UserError as error:
                raise SampleFault("no audio", f"{self.audio}: {error}") from error
            columns = _columns(file.schema_arrow)
            told_length = "duration" in columns.values() and self.corpus.trust_durations
            wanted = [*columns, *([] if told_length else [sound])]
            first = 0
            for group in range(file.metadata.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                yield from self._group(
                    file.metadata, group, wanted, columns, sound, range(first, first + count)
                )
                first += count

    def _group(
        self, metadata: Any, group: int, wanted: list[str], columns: dict[str, str], sound: str, rows: range
    ) -> Iterator[Entry]:
        row = rows.start
        try:
            for batch in iter_row_group(self.path, metadata, group, wanted):
                texts = batch.select(list(columns)).to_pylist()
                sounds = iter_audio_bytes(batch, sound) if sound in wanted else [None] * len(texts)
                for values, data in zip(texts, sounds, strict=True):
                    yield self._entry(row, self._told(row, values, columns), data, sound in wanted)
                    row += 1
        except SampleFault as fault:  # the file is damaged here: each row that is lost is accounted for
            for lost in range(row, rows.stop):
                yield Skip(self._name(lost), fault.reason, f"{self.audio}: row {lost}: {fault.detail}")

    def _entry(self, row: int, told: dict[str, Any], data: bytes | None, look: bool) -> Entry:
        where = f"{self.audio}: row {row}"

        def compared(utterance: Utterance) -> Utterance:
            if utterance.duration is not None and not look:
                return utterance
            if not data:
                raise SampleFault("no audio", "has no audio bytes; leave the row out")
            with Recording(data, "its audio") as recording:
                return utterance.model_copy(update=measured(recording, utterance, whole=True))

        return as_entry(where, told, compared)

    def _told(self, row: int, values: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        told: dict[str, Any] = {"extra": {}}
        for column, value in values.items():
            if value is not None and columns[column]:
                told[columns[column]] = value
            elif value is not None:
                told["extra"][column] = value
        for field in ("id", "speaker"):
            if isinstance(told.get(field), int):
                told[field] = str(told[field])
        name = f"{self.corpus.dataset}/{told['id']}" if told.get("id") else self._name(row)
        split = split_of(told["split"]) or told["split"] if told.get("split") else self._split()
        return told | {
            "id": name, "dataset": self.corpus.dataset, "split": split, "audio": self.audio, "row": row
        }  # fmt: skip

    def _name(self, row: int) -> str:
        return f"{self.corpus.dataset}/{self.audio.removesuffix('.parquet')}/{row}"

    def _split(self) -> str:
        names = [self.path.stem, *reversed(Path(self.audio).parent.parts)]
        return next((split for name in names if (split := split_of(name))), TRAIN)


def _columns(schema: Any) -> dict[str, str]:
    """The columns to keep: name to our field, or to nothing for what goes into `extra`: plain values and words."""
    import pyarrow as pa

    ours = {}
    for field, names in _COLUMNS.items():
        for name in names:
            if name in schema.names:
                ours[name] = field
                break
    is_plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
    kept = [
        column.name
        for column in schema
        if column.name == _WORDS or any(is_one(column.type) for is_one in (*is_plain, pa.types.is_floating))
    ]
    return {name: ours.get(name, "") for name in kept}
