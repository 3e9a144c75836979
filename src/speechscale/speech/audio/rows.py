"""Audio that lies in the rows of Parquet files, the way speech sets lie on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechscale.errors import SampleFault, UserError

_ROWS = 16  # of audio held at a time, besides the pages of the file they lie in


def audio_column(schema: Any, name: str | None = None) -> str:
    """The column of audio bytes in a schema of pyarrow: a struct with `bytes`, or a binary column.

    The one of this name; without a name, `audio` or the first.

    Raises:
        UserError: there is none.
    """
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    found = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            if field.type.get_field_index("bytes") >= 0 and holds_bytes(field.type.field("bytes").type):
                found[field.name] = f"{field.name}.bytes"
        elif holds_bytes(field.type):
            found[field.name] = field.name
    if name is None:
        name = "audio" if "audio" in found else next(iter(found), None)
    if name not in found:
        what = f"the column {name!r} holds no" if name else "no column holds"
        raise UserError(f"{what} audio bytes; found {', '.join(schema.names)}, wanted a struct with `bytes`.")
    return found[name]


def open_parquet(path: Path, metadata: Any = None) -> Any:
    """A Parquet file, read page by page; `metadata`, where it is known already, is not read again.

    Raises:
        SampleFault: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise SampleFault("missing", f"{path}: no such file; restore it or correct the list") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _damage(error, f"{path}: not a whole Parquet file") from error


def batches_of_group(path: Path, metadata: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """The rows of a row group, a few at a time; the file is open for as long as they are asked for.

    Raises:
        SampleFault: the group is damaged.
    """
    import pyarrow as pa

    with open_parquet(path, metadata) as file:
        try:
            yield from file.iter_batches(
                batch_size=_ROWS, row_groups=[group], columns=columns, use_threads=False
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise _damage(error, f"row group {group} is damaged") from error


def _damage(error: Exception, told: str) -> SampleFault:
    """The fault of a damaged file; what the machine is to blame for has an error number, and is raised as it is."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return SampleFault("corrupt", f"{told} ({' '.join(str(error).split())}); copy the file again")


def values_of(table: Any, column: str) -> Iterator[bytes | None]:
    """The audio bytes of each row of a record batch."""
    name, _, member = column.rpartition(".") if column.endswith(".bytes") else (column, "", "")
    array = table.column(name)
    for value in array:
        if value.is_valid and member:
            value = value[member]
        yield value.as_buffer().to_pybytes() if value.is_valid else None


class AudioRows:
    """The audio bytes of a column of one Parquet file. Rows asked for in order cost one pass over their row group.

    Raises:
        SampleFault: the file is missing, no Parquet, or without audio.
    """

    def __init__(self, path: Path, name: str, column: str | None = None) -> None:
        self.path, self.name = path, name
        with open_parquet(path) as file:
            self._metadata = file.metadata
            try:
                self._column = audio_column(file.schema_arrow, column)
            except UserError as error:
                raise SampleFault("no audio", f"{name}: {error}") from error
        self._next = 0  # the row that the open pass gives next
        self._end = 0  # of the row group of that pass
        self._pass: Iterator[bytes | None] = iter(())
        self._damage: SampleFault | None = None  # that ended the pass

    def close(self) -> None:
        self._pass, self._end = iter(()), 0  # which closes the file

    def read(self, row: int) -> bytes:
        """The bytes of a row.

        Raises:
            SampleFault: no such row, nothing in it, or its row group is damaged.
        """
        if not self._next <= row < self._end:
            self._start(row)
        if self._damage:
            raise self._damage
        value = None
        try:
            while self._next <= row:
                value = next(self._pass)
                self._next += 1
        except SampleFault as fault:
            self._damage = SampleFault(fault.reason, f"{self.name}: row {row}: {fault.detail}")
            raise self._damage from fault
        if not value:
            raise SampleFault("no audio", f"{self.name}: row {row} has no audio bytes; leave the row out")
        return value

    def _start(self, row: int) -> None:
        start, meta = 0, self._metadata
        for group in range(meta.num_row_groups):
            count = meta.row_group(group).num_rows
            if start <= row < start + count:
                self.close()
                self._next, self._end = start, start + count
                self._pass, self._damage = self._values(group), None
                return
            start += count
        raise SampleFault(
            "missing", f"{self.name}: has {meta.num_rows} rows, wanted row {row}; list the corpus again"
        )

    def _values(self, group: int) -> Iterator[bytes | None]:
        for batch in batches_of_group(self.path, self._metadata, group, [self._column]):
            yield from values_of(batch, self._column)
