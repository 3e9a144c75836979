"""Parquet with both recordings of an item in one row, as benchmarks lie on the Hugging Face hub.

Read are the columns of `slprl/multispeaker-storycloze` (`id`, `correct_text`, `correct_audio`, `negative_text`,
`negative_audio`; a folder a task and in it one a voice, `sSC/bm`) and of `slprl/SALMon` (`task`, `ind`,
`positive_audio`, `negative_audio`; a folder a part).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechscale.datasets.benchmarks.members import (
    SALMON,
    Benchmark,
    Fault,
    Member,
    member,
    task_named,
    task_of,
)
from speechscale.datasets.corpora import parquet as corpora
from speechscale.datasets.corpora.folder import files_below
from speechscale.errors import SampleFault, UserError
from speechscale.records.shards import Skip
from speechscale.speech.audio.parquet_audio import iter_row_group, open_parquet

_PAIRS = (
    ("correct_audio", "negative_audio"),
    ("correct_audio", "incorrect_audio"),
    ("positive_audio", "negative_audio"),
)
_IDS = ("id", "ind", "story_id")
_VOICES = ("voice", "speaker", "speaker_id")
_SALMON_PAIR, _PART = "positive_audio", "task"  # columns of SALMon; the second names the part


def looks_like_one(path: Path) -> bool:
    return path.suffix == ".parquet" if path.is_file() else path.is_dir() and corpora.looks_like_one(path)


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Both members of every row.

    Raises:
        UserError: no Parquet file, or one without the columns of a pair, or of no known task.
    """
    path = benchmark.path
    files = [path] if path.is_file() else files_below(path, (".parquet",))
    found = False
    for file in files:
        found = True
        if isinstance(file, Skip):
            yield Fault(file.id, file.reason, file.detail)
            continue
        try:
            with open_parquet(file) as opened:
                schema, metadata = opened.schema_arrow, opened.metadata
        except SampleFault as fault:
            yield Fault(file.name, fault.reason, fault.detail)
            continue
        yield from _File(benchmark, file, _columns(file, schema.names)).members(metadata)
    if not found:
        raise UserError(f"{path}: no .parquet files here.")


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what."""

    id: str
    members: tuple[tuple[str, bool], ...]  # columns of audio, and whether they are correct
    texts: dict[str, str]  # by the column of audio
    voice: str | None
    part: str | None

    @property
    def plain(self) -> list[str]:
        """All but the audio."""
        return [column for column in (self.id, self.voice, self.part, *self.texts.values()) if column]


def _columns(path: Path, names: list[str]) -> _Columns:
    pair = next((pair for pair in _PAIRS if set(pair) <= set(names)), None)
    key = next((name for name in _IDS if name in names), None)
    if pair is None or key is None:
        wanted = " or ".join(" and ".join(columns) for columns in _PAIRS)
        raise UserError(
            f"{path}: no pairs by its columns; found {', '.join(names)}, wanted one of {', '.join(_IDS)}, and {wanted}."
        )
    texts = {audio: audio.replace("_audio", "_text") for audio in pair}
    return _Columns(
        id=key,
        members=((pair[0], True), (pair[1], False)),
        texts={audio: text for audio, text in texts.items() if text in names},
        voice=next((name for name in _VOICES if name in names), None),
        part=_PART if _PART in names and pair[0] == _SALMON_PAIR else None,
    )


@dataclass(frozen=True)
class _File:
    """One file of rows."""

    benchmark: Benchmark
    path: Path
    columns: _Columns

    def members(self, metadata: Any) -> Iterator[Member | Fault]:
        row = 0
        for group in range(metadata.num_row_groups):
            end = row + metadata.row_group(group).num_rows
            try:
                for batch in iter_row_group(self.path, metadata, group, self.columns.plain):
                    for values in batch.to_pylist():
                        yield from self._row(row, values)
                        row += 1
            except SampleFault as fault:  # each row that is lost is accounted for
                for lost in range(row, end):
                    yield Fault(f"{self.name}: row {lost}", fault.reason, fault.detail)
            row = end

    @property
    def name(self) -> str:
        path = self.benchmark.path
        return self.path.name if self.path == path else self.path.relative_to(path).as_posix()

    def _row(self, row: int, values: dict[str, Any]) -> Iterator[Member | Fault]:
        where = f"{self.name}: row {row}"
        needed = (self.columns.id, self.columns.voice, self.columns.part)
        empty = [column for column in needed if column and values[column] in (None, "")]
        if empty:
            yield Fault(where, "bad entry", f"{empty[0]} is empty; fill it in")
            return
        part = self.columns.part
        said = self._part(str(values[part])) if part else self._story(values)
        group = "/".join(part for part in (said.get("condition", ""), str(values[self.columns.id])) if part)
        name = "/".join(part for part in (group, said.get("voice", "")) if part)
        for column, correct in self.columns.members:
            label = said | {"group_id": group, "pair_id": name, "correct": correct}
            yield member(
                self.benchmark,
                str(self.path),
                f"{where} ({column})",
                label,
                id=f"{said['task']}/{name}/{'correct' if correct else 'wrong'}",
                row=row,
                column=column,
                transcript=values.get(self.columns.texts.get(column, "")),
            )

    def _part(self, part: str) -> dict[str, Any]:
        """Of a part of SALMon."""
        return {"task": self.benchmark.task or SALMON, "phenomenon": part, "condition": part}

    def _story(self, values: dict[str, Any]) -> dict[str, Any]:
        """Of a story: the task by the nearest folder that names one, the voice by a column or the folder below."""
        folders = self._folders()
        task = task_of(self.benchmark, *folders)
        if self.columns.voice:
            return {"task": task, "voice": str(values[self.columns.voice])}
        place = next((place for place, name in enumerate(folders) if task_named(name)), 0)
        return {"task": task, "voice": folders[place - 1] if place else ""}

    def _folders(self) -> list[str]:
        """The folders that the file lies in, nearest first: down from the benchmark's, and what that one lies in."""
        place, top = self.path.absolute().parent, self.benchmark.path.absolute()
        top = top if top.is_dir() else top.parent
        return [*reversed(place.relative_to(top).parts), top.name, top.parent.name]
