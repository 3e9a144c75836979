"""Reading of audio bytes from Parquet files, as the Hugging Face hub stores speech data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechscale.errors import SampleFault, UserError

_BATCH_ROWS = 16  # rows of audio in memory at a time, besides the pages of the file that hold them


def audio_column(schema: Any, name: str | None = None) -> str:
    """The path of the column of audio bytes: a struct with `bytes`, or a binary column.

    Args:
        schema: a pyarrow schema.
        name: the wanted column; None: `audio`, else the first column of audio bytes.

    Raises:
        UserError: there is no such column.
    """
    import pyarrow as pa

    def is_binary(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    columns = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            if field.type.get_field_index("bytes") >= 0 and is_binary(field.type.field("bytes").type):
                columns[field.name] = f"{field.name}.bytes"
        elif is_binary(field.type):
            columns[field.name] = field.name
    if name is None:
        name = "audio" if "audio" in columns else next(iter(columns), None)
    if name not in columns:
        what = f"the column {name!r} holds no" if name else "no column holds"
        raise UserError(f"{what} audio bytes; found {', '.join(schema.names)}, wanted a struct with `bytes`.")
    return columns[name]


def open_parquet(path: Path, metadata: Any = None) -> Any:
    """A `pyarrow.parquet.ParquetFile` that reads page by page.

    Args:
        path: the file.
        metadata: its `FileMetaData` where it was read before; it is not read again then.

    Raises:
        SampleFault: the file is missing or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise SampleFault("missing", f"{path}: no such file; restore it or correct the list") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _corruption(error, f"{path}: not a whole Parquet file") from error


def iter_row_group(path: Path, metadata: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """The rows of one row group as small record batches. The file stays open until the iterator ends or is dropped.

    Args:
        path: the Parquet file.
        metadata: its `FileMetaData`.
        group: number of the row group.
        columns: paths of the columns to read.

    Raises:
        SampleFault: the group is damaged.
    """
    import pyarrow as pa

    with open_parquet(path, metadata) as file:
        try:
            yield from file.iter_batches(
                batch_size=_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise _corruption(error, f"row group {group} is damaged") from error


def _corruption(error: Exception, message: str) -> SampleFault:
    """The fault of a damaged file. Errors of the machine carry an error number and are raised unchanged."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return SampleFault("corrupt", f"{message} ({' '.join(str(error).split())}); copy the file again")


def iter_audio_bytes(batch: Any, column: str) -> Iterator[bytes | None]:
    """The audio bytes of each row of a record batch; None where the row has none. `column`: from `audio_column`."""
    name, _, member = column.rpartition(".") if column.endswith(".bytes") else (column, "", "")
    for value in batch.column(name):
        if value.is_valid and member:
            value = value[member]
        yield value.as_buffer().to_pybytes() if value.is_valid else None


class ParquetAudioReader:
    """The audio bytes of one column of a Parquet file. Rows read in order cost one pass over their row group.

    Raises:
        SampleFault: the file is missing, is not Parquet, or has no audio.
    """

    def __init__(self, path: Path, name: str, column: str | None = None) -> None:
        self.path, self.name = path, name
        with open_parquet(path) as file:
            self._metadata = file.metadata
            try:
                self._column = audio_column(file.schema_arrow, column)
            except UserError as error:
                raise SampleFault("no audio", f"{name}: {error}") from error
        self._next_row = 0  # of the open row group
        self._group_end = 0  # first row after the open row group
        self._values: Iterator[bytes | None] = iter(())
        self._fault: SampleFault | None = None  # at which the open row group ended early

    def close(self) -> None:
        """Close the file. A later `read` opens it again."""
        self._values, self._group_end = iter(()), 0  # dropping the iterator closes the file

    def read(self, row: int) -> bytes:
        """The audio bytes of a row.

        Raises:
            SampleFault: no such row, no bytes in it, or its row group is damaged.
        """
        if not self._next_row <= row < self._group_end:
            self._open_group_of(row)
        if self._fault:
            raise self._fault
        value = None
        try:
            while self._next_row <= row:
                value = next(self._values)
                self._next_row += 1
        except SampleFault as fault:
            self._fault = SampleFault(fault.reason, f"{self.name}: row {row}: {fault.detail}")
            raise self._fault from fault
        if not value:
            raise SampleFault("no audio", f"{self.name}: row {row} has no audio bytes; leave the row out")
        return value

    def _open_group_of(self, row: int) -> None:
        start, metadata = 0, self._metadata
        for group in range(metadata.num_row_groups):
            count = metadata.row_group(group).num_rows
            if start <= row < start + count:
                self.close()
                self._next_row, self._group_end = start, start + count
                self._values, self._fault = self._iter_group(group), None
                return
            start += count
        raise SampleFault(
            "missing",
            f"{self.name}: has {metadata.num_rows} rows, wanted row {row}; list the corpus again",
        )

    def _iter_group(self, group: int) -> Iterator[bytes | None]:
        for batch in iter_row_group(self.path, self._metadata, group, [self._column]):
            yield from iter_audio_bytes(batch, self._column)
