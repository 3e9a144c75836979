"""The runs table: names and types that it gets, what is refused, and files of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from speechscale.errors import UserError
from speechscale.records.runs_table import canonical_table, read_curves, read_design, read_table
from speechscale.records.score_columns import score_names

HEADER = "run,series,N,D,L,status,sblimp,sblimp_items\n"


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str | bytes, name: str = "runs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


def test_aliases_become_canonical_names_and_flops_are_6nd(write: Write) -> None:
    found = read_table(write(HEADER + "a,speech,1e6,2e7,3.1,done,55,500\n"))
    assert found.select("run", "series", "params", "tokens", "loss", "flops", "unique_tokens", "sblimp").row(0) == (
        "a", "speech", 1e6, 2e7, 3.1, 1.2e14, 2e7, 0.55,
    )  # fmt: skip


def test_series_status_and_names_have_defaults(write: Write) -> None:
    found = read_table(write("params,tokens,loss\n1e6,2e7,3.1\n2e6,2e7,3.0\n"))
    assert found["run"].to_list() == ["row 1", "row 2"]
    assert found["series"].to_list() == ["runs", "runs"] and found["status"].to_list() == ["done", "done"]


def test_failed_run_needs_no_loss(write: Write) -> None:
    found = read_table(write(HEADER + "a,s,1e6,2e7,,failed,,\nb,s,1e6,3e7,2.9,done,,\n"))
    assert found["loss"].to_list() == [None, 2.9]


def test_parquet_and_tsv_are_read(write: Write, tmp_path: Path) -> None:
    pl.DataFrame({"N": [10**6], "D": [2 * 10**7], "L": [3.1]}).write_parquet(tmp_path / "runs.parquet")
    assert read_table(tmp_path / "runs.parquet")["flops"].item() == 1.2e14
    assert read_table(write("N\tD\tL\n1e6\t2e7\t3.1\n", "runs.tsv"))["loss"].item() == 3.1


def test_columns_about_a_run_are_not_scores(write: Write) -> None:
    text = (
        "N,D,L,params_total,epochs,steps,flops_exact,loss_se,seconds,seed,preset,sblimp,sblimp_items,note\n"
        "1e6,2e7,3.1,2000000,1,5050,1e15,0.01,3600,1,paper,0.55,500,fine\n"
    )
    assert score_names(read_table(write(text))) == ["sblimp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "the table has no rows"),
        ("run,N,D\na,1e6,2e7\n", "column 'loss' is missing"),
        ("params,tokns,loss\n1e6,2e7,3\n", r"column 'tokens' is missing \(did you mean 'tokns'"),
        (HEADER + "a,s,1,1,3,done,,\nb,s,2M,1,3,done,,\n", "row 2, column 'params': '2M' is not a finite number"),
        (HEADER + "a,s,1e6,2e7,NaN,done,,\n", "row 1, column 'loss': 'NaN' is not a finite number"),
        (HEADER + "a,s,1e6,inf,3,done,,\n", "row 1, column 'tokens': 'inf' is not a finite number"),
        (HEADER + "a,s,1e6,2e7,,done,,\n", "row 1, column 'loss': .* is empty"),
        (HEADER + "a,s,-5,2e7,3,done,,\n", "row 1, column 'params': -5 is not above zero"),
        (HEADER + "a,s,1e6,0,3,done,,\n", "row 1, column 'tokens': 0 is not above zero"),
        (HEADER + "a,s,1,1,3,done,,\na,s,2,1,3,done,,\n", "rows 1 and 2, column 'run': the name 'a' occurs twice"),
        (HEADER + "a,s,1e6,2e7,3,done,140,\n", "row 1, column 'sblimp': 140 is no score"),
        (HEADER + "a,s,1e6,2e7,3,done,-0.1,\n", "row 1, column 'sblimp': -0.1 is no score"),
        (HEADER + "a,s,1e6,2e7,3,done,55,\nb,s,2e6,2e7,3,done,0.56,\n", "mixes percent and fractions: row 1 .* row 2"),
        ("N,params,D,L\n1,1,1,1\n", "N and params name the same thing"),
        ("run,N,D,L\né,1e6,2e7,3\n".encode("latin-1"), "row 1 holds byte 0xe9, which is not UTF-8 .* save it as UTF-8"),
        ("run,N,D,L\na,1e6,2e7,3\n".encode("utf-16"), "the header holds byte 0x00, .* save it as UTF-8"),
        ("run;N;D;L\na;1e6;2e7;3\n", "separated by semicolons"),
        ("run,N,D,L,L\na,1,1,3,2\n", "column 'L' occurs twice"),
        ("run,N,D,L\na,1,1,3\nb,1,1,3,7\n", "row 2 has more cells than the header"),
        ("run,N,D,L\na,1,1,3\n\nb,1,1,3\n", "row 2, column 'run': the cell is empty"),
        (HEADER + "a,s,1e6,2e7,3,done,55,0\n", "row 1, column 'sblimp_items': 0 is not above zero"),
        ("N,D,L,q,q_chance\n1,1,1,55,50\n", r"column 'q_chance': 50 is no score of guessing; a fraction in \[0, 1\)"),
        ("N,D,L,weight\n1,1,1,-1\n", "row 1, column 'weight': -1 is no weight"),
        ("N,D,L,weight\n1,1,1,1\n1,2,1,\n", "row 2, column 'weight': the cell is empty"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_file_row_and_column(
    write: Write, text: str | bytes, message: str
) -> None:
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(UserError, match="Is a directory"):
        read_table(tmp_path)


def test_brackets_in_a_file_name_are_no_pattern(write: Write) -> None:
    assert read_table(write("N,D,L\n1e6,2e7,3\n", "runs[1]*.csv")).height == 1


def test_files_of_spreadsheets_and_pandas_are_read(write: Write) -> None:
    """A byte order mark, CRLF, blanks around names, blank lines at the end, and saved indices without a name."""
    text = "\ufeff, N, D, L, Unnamed: 0,\r\n0,1e6,2e7,3,7,0\r\n1,2e6,2e7,3,8,1\r\n\r\n"
    found = read_table(write(text))
    assert found["params"].to_list() == [1e6, 2e6] and score_names(found) == []


def test_failed_run_may_have_any_loss(write: Write) -> None:
    found = read_table(write(HEADER + "a,s,1e6,2e7,nan,diverged,,\nb,s,1e6,3e7,2.9,done,,\n"))
    assert found["loss"].to_list() == [None, 2.9]


def test_table_of_too_many_rows_is_refused() -> None:
    with pytest.raises(UserError, match="100001 rows are no table of runs"):
        canonical_table({"N": [1.0] * 100_001, "D": [1.0] * 100_001, "L": [1.0] * 100_001})


def test_design_needs_no_losses(write: Write) -> None:
    assert read_design(write("N,D\n1e6,2e7\n")).row(0) == (1e6, 2e7)
    with pytest.raises(UserError, match="row 1, column 'tokens': 0 is not above zero"):
        read_design(write("N,D\n1e6,0\n"))
    with pytest.raises(UserError, match="no rows"):
        read_design(write("N,D\n"))


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    with path.open("wb") as stream:
        stream.truncate(300 * 2**20)  # sparse: nothing is written
    with pytest.raises(UserError, match="300 MiB is no table of runs"):
        read_table(path)


def test_same_name_in_two_series_is_two_runs(write: Write) -> None:
    text = HEADER + "a,s,1e6,2e7,3,done,,\na,t,2e6,2e7,3,done,,\n"
    assert read_table(write(text)).height == 2
    with pytest.raises(UserError, match="rows 2 and 3, column 'run'"):
        read_table(write(text + "a,t,3e6,2e7,3,done,,\n"))


def test_flops_of_integer_columns_do_not_overflow() -> None:
    found = canonical_table({"N": [10**11], "D": [10**13], "L": [1.9]})
    assert found["flops"].item() == 6e24


def test_curves_get_6nd_flops(write: Write) -> None:
    text = "run,series,params,step,tokens,flops,loss\na,s,1e6,10,1e6,0,5.0\na,s,1e6,20,2e6,0,4.0\n"
    assert read_curves(write(text))["flops"].to_list() == [6e12, 1.2e13]
    with pytest.raises(UserError, match="column 'run' is missing"):
        read_curves(write("N,D,L\n1,1,1\n", "other.csv"))
