"""Parquet files with both recordings of an item in one row, as benchmarks on the Hugging Face hub.

Two sets of columns are known: those of `slprl/multispeaker-storycloze` (`id`, `correct_text`, `correct_audio`,
`negative_text`, `negative_audio`; a folder per task and in it one per voice, `sSC/bm`) and of `slprl/SALMon` (`task`,
`ind`, `positive_audio`, `negative_audio`; a folder per part).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechscale.datasets.benchmarks.members import (
    BenchmarkSource,
    Member,
    MemberFault,
    make_member,
    require_task,
)
from speechscale.datasets.corpora.folder import files_below
from speechscale.datasets.corpora.parquet import matches as is_parquet_folder
from speechscale.errors import SampleFault, UserError
from speechscale.records.items import SALMON, task_from_names
from speechscale.records.shards import Skip
from speechscale.speech.audio.parquet_audio import iter_row_group, open_parquet

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_AUDIO_COLUMNS = (  # of the correct and the wrong member
    ("correct_audio", "negative_audio"),
    ("correct_audio", "incorrect_audio"),
    ("positive_audio", "negative_audio"),
)
_ID_COLUMNS = ("id", "ind", "story_id")
_VOICE_COLUMNS = ("voice", "speaker", "speaker_id")
_SALMON_AUDIO, _SALMON_PART = "positive_audio", "task"  # the second column names the part of SALMon


def matches(path: Path) -> bool:
    """Whether the path is a Parquet file, or a folder of them."""
    return path.suffix == ".parquet" if path.is_file() else path.is_dir() and is_parquet_folder(path)


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read both members of every row.

    Raises:
        UserError: no Parquet file, or one without the columns of a pair, or no known task.
    """
    path = source.path
    files = [path] if path.is_file() else files_below(path, (".parquet",))
    is_empty = True
    for file in files:
        is_empty = False
        if isinstance(file, Skip):
            yield MemberFault(file.id, file.reason, file.detail)
            continue
        try:
            with open_parquet(file) as opened:
                schema, metadata = opened.schema_arrow, opened.metadata
        except SampleFault as fault:
            yield MemberFault(file.name, fault.reason, fault.detail)
            continue
        yield from _ParquetFile(source, file, _find_columns(file, schema.names)).members(metadata)
    if is_empty:
        raise UserError(f"{path}: no .parquet files here.")


@dataclass(frozen=True)
class _Columns:
    """Which columns of a file hold what."""

    id: str
    audio: tuple[tuple[str, bool], ...]  # columns, and whether their recordings are the correct members
    texts: dict[str, str]  # by the column of audio
    voice: str | None
    part: str | None  # of SALMon

    @property
    def without_audio(self) -> list[str]:
        return [column for column in (self.id, self.voice, self.part, *self.texts.values()) if column]


def _find_columns(path: Path, names: list[str]) -> _Columns:
    audio = next((pair for pair in _AUDIO_COLUMNS if set(pair) <= set(names)), None)
    id_column = next((name for name in _ID_COLUMNS if name in names), None)
    if audio is None or id_column is None:
        wanted = " or ".join(" and ".join(columns) for columns in _AUDIO_COLUMNS)
        raise UserError(
            f"{path}: no pairs by its columns; found {', '.join(names)}, wanted one of {', '.join(_ID_COLUMNS)}, "
            f"and {wanted}."
        )
    texts = {column: column.replace("_audio", "_text") for column in audio}
    return _Columns(
        id=id_column,
        audio=((audio[0], True), (audio[1], False)),
        texts={column: text for column, text in texts.items() if text in names},
        voice=next((name for name in _VOICE_COLUMNS if name in names), None),
        part=_SALMON_PART if _SALMON_PART in names and audio[0] == _SALMON_AUDIO else None,
    )


@dataclass(frozen=True)
class _ParquetFile:
    """One file of pairs."""

    source: BenchmarkSource
    path: Path
    columns: _Columns

    def members(self, metadata: pq.FileMetaData) -> Iterator[Member | MemberFault]:
        """Both members of every row."""
        row = 0
        for group in range(metadata.num_row_groups):
            end = row + metadata.row_group(group).num_rows
            try:
                for batch in iter_row_group(self.path, metadata, group, self.columns.without_audio):
                    for values in batch.to_pylist():
                        yield from self._row(row, values)
                        row += 1
            except SampleFault as fault:  # the group is damaged here: one fault for each row that is lost
                for lost in range(row, end):
                    yield MemberFault(f"{self.name}: row {lost}", fault.reason, fault.detail)
            row = end

    @property
    def name(self) -> str:
        """Path below the benchmark."""
        path = self.source.path
        return self.path.name if self.path == path else self.path.relative_to(path).as_posix()

    def _row(self, row: int, values: Mapping[str, object]) -> Iterator[Member | MemberFault]:
        where = f"{self.name}: row {row}"
        required = (self.columns.id, self.columns.voice, self.columns.part)
        empty = [column for column in required if column and values[column] in (None, "")]
        if empty:
            yield MemberFault(where, "bad entry", f"{empty[0]} is empty; fill it in")
            return
        part = self.columns.part
        shared = self._salmon_label(str(values[part])) if part else self._story_label(values)
        group_parts = (shared.get("condition", ""), str(values[self.columns.id]))
        group = "/".join(name for name in group_parts if name)
        pair_id = "/".join(name for name in (group, shared.get("voice", "")) if name)
        for column, correct in self.columns.audio:
            yield make_member(
                self.source,
                str(self.path),
                f"{where} ({column})",
                {**shared, "group_id": group, "pair_id": pair_id, "correct": correct},
                id=f"{shared['task']}/{pair_id}/{'correct' if correct else 'wrong'}",
                row=row,
                column=column,
                transcript=values.get(self.columns.texts.get(column, "")),
            )

    def _salmon_label(self, part: str) -> dict[str, str]:
        return {"task": self.source.task or SALMON, "phenomenon": part, "condition": part}

    def _story_label(self, values: Mapping[str, object]) -> dict[str, str]:
        """Task of the nearest folder that names one, and voice of the row or of the folder below that one."""
        folders = self._folders()
        task = require_task(self.source, *folders)
        if self.columns.voice:
            return {"task": task, "voice": str(values[self.columns.voice])}
        index = next((index for index, name in enumerate(folders) if task_from_names(name)), 0)
        return {"task": task, "voice": folders[index - 1] if index else ""}

    def _folders(self) -> list[str]:
        """Names of the folders that contain the file, nearest first, up to the one above the benchmark's folder."""
        folder, top = self.path.absolute().parent, self.source.path.absolute()
        top = top if top.is_dir() else top.parent
        return [*reversed(folder.relative_to(top).parts), top.name, top.parent.name]
