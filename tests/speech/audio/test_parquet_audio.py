"""Audio in Parquet files: the choice of the column, rows in any order, faults that name the row."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import AUDIO_STRUCT, parquet

from speechscale.errors import SampleFault, UserError
from speechscale.speech.audio import parquet_audio
from speechscale.speech.audio.parquet_audio import ParquetAudioReader, audio_column

ROWS = [b"zero", b"one", None, b"three", b"four"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return parquet(tmp_path / "a.parquet", {}, sounds=ROWS, group=2)


def test_column_is_the_named_one_then_audio_then_the_first() -> None:
    columns = [("text", pa.string()), ("raw", pa.binary()), ("audio", AUDIO_STRUCT)]
    assert audio_column(pa.schema(columns)) == "audio.bytes"
    assert audio_column(pa.schema(columns), "raw") == "raw"
    assert audio_column(pa.schema(columns[:2])) == "raw"
    with pytest.raises(UserError, match="no column holds audio bytes; found text"):
        audio_column(pa.schema(columns[:1]))
    with pytest.raises(UserError, match="the column 'text' holds no audio bytes"):
        audio_column(pa.schema(columns), "text")


def test_rows_are_read_in_any_order(file: Path) -> None:
    reader = ParquetAudioReader(file, "a")
    assert [reader.read(row) for row in (4, 0, 1, 3, 0)] == [ROWS[row] for row in (4, 0, 1, 3, 0)]
    reader.close()
    assert reader.read(3) == b"three"


def test_rows_in_order_open_each_row_group_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    iter_row_group = parquet_audio.iter_row_group

    def record_group(path, metadata, group, columns):
        opened.append(group)
        return iter_row_group(path, metadata, group, columns)

    monkeypatch.setattr(parquet_audio, "iter_row_group", record_group)
    reader = ParquetAudioReader(file, "a")
    for row in (0, 1, 3, 4):
        reader.read(row)
    assert opened == [0, 1, 2]


def test_missing_rows_and_empty_values_are_faults(file: Path, tmp_path: Path) -> None:
    reader = ParquetAudioReader(file, "a")
    with pytest.raises(SampleFault, match="a: has 5 rows, wanted row 5"):
        reader.read(5)
    with pytest.raises(SampleFault, match="a: row 2 has no audio bytes"):
        reader.read(2)
    with pytest.raises(SampleFault, match="no such file"):
        ParquetAudioReader(tmp_path / "none.parquet", "none")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(SampleFault, match="no audio: text: no column holds audio bytes"):
        ParquetAudioReader(tmp_path / "text.parquet", "text")


def test_files_that_are_not_parquet_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(SampleFault, match=r"corrupt: .*not a whole Parquet file"):
        ParquetAudioReader(tmp_path / "a.parquet", "a")
