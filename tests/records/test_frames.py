"""Tables of other libraries become one kind of frame, and other values are refused."""

import numpy as np
import polars as pl
import pytest

from speechscale.errors import UserError
from speechscale.records.frames import as_frame
from speechscale.records.runs_table import canonical_table

COLUMNS = {
    "run": ["a", "b"],
    "N": [10**6, 2 * 10**6],
    "D": [2e7, 2e7],
    "L": [3.1, 3.0],
    "sblimp": [0.5, None],
}


def _rows(table: object) -> list[tuple]:
    return canonical_table(table).select("run", "params", "loss", "sblimp").rows()


EXPECTED = [("a", 1e6, 3.1, 0.5), ("b", 2e6, 3.0, None)]


def test_tables_from_polars_frames_mappings_and_rows():
    frame = pl.DataFrame(COLUMNS)
    arrays = {**COLUMNS, "D": np.array([2e7, 2e7]), "sblimp": np.array([0.5, np.nan])}
    for table in (frame, frame.lazy(), COLUMNS, arrays, frame.to_dicts()):
        assert _rows(table) == EXPECTED


def test_nan_is_an_empty_cell_only_in_optional_columns():
    with pytest.raises(UserError, match="row 2, column 'loss': nan is not a finite number"):
        canonical_table({**COLUMNS, "L": np.array([3.1, np.nan])})


@pytest.mark.parametrize(
    ("convert", "index"),
    [(False, None), (True, None), (False, [7, 7])],
    ids=["numpy types", "nullable types", "another index"],
)
def test_tables_from_pandas_with_any_types_and_index(convert, index):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS, index=index)
    assert _rows(frame.convert_dtypes() if convert else frame) == EXPECTED


def test_pandas_frame_with_repeated_column_is_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS)
    with pytest.raises(UserError, match="runs: column 'L' occurs twice"):
        as_frame(pandas.concat([frame, frame[["L"]]], axis=1), "runs")


def test_tables_from_arrow():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(COLUMNS)
    assert _rows(table) == _rows(table.to_batches()[0]) == EXPECTED


@pytest.mark.parametrize("table", [{"N": [1.0], "D": [1.0, 2.0]}, {"N": 1.0}, 3])
def test_other_values_are_refused(table):
    with pytest.raises(UserError, match=r"runs: an? .* is no table"):
        as_frame(table, "runs")
