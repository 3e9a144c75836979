"""The runs table that laws are fitted to, and the table of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from speechscale.errors import UserError, nearest
from speechscale.records.flops import training_flops
from speechscale.records.frames import as_frame, read_frame, separator_of
from speechscale.records.runs import RunRecord
from speechscale.records.score_columns import check_range, is_score, raise_where
from speechscale.records.seal import file_lock, write_file

ALIASES = {"N": "params", "D": "tokens", "C": "flops", "L": "loss"}
REQUIRED_COLUMNS = ("params", "tokens", "loss")
UNNAMED_PREFIXES = (
    "Unnamed: ",
    "_duplicated_",
)  # of columns without a name in pandas and polars: saved indices
# What must be the same for all runs of one law, in lower case: of another recipe, corpus or tokenizer, a model of the
# same N and D has another loss. Kept as text.
RECIPE_NAMES = frozenset(
    [
        *("preset", "recipe", "architecture", "arch", "family", "model_family"),
        *("optimizer", "optimiser", "schedule", "lr_schedule", "scheduler", "lr_scheduler"),
        *("tokenizer", "vocabulary", "vocabulary_size", "vocab", "vocab_size"),
        *("corpus", "dataset", "train_set", "training_data", "test_set", "validation_set"),
        *("context", "context_length", "sequence_length", "seq_len"),
    ]
)
TEXT_COLUMNS = ("run", "series", "status", "note")
# Epochs up to which a run counts as one that saw every token once: a run is rounded to whole steps, so it may end a
# little beyond its data.
SINGLE_EPOCH_TOLERANCE = 1.001
MAX_RUNS = 100_000  # bootstrap draws x runs must fit in memory


def write_table(records: list[RunRecord], path: Path) -> None:
    """Write the runs table as CSV, one row a run, in the order of the records."""
    table = pl.DataFrame([record.row() for record in records], infer_schema_length=None)
    write_file(path, table.write_csv())


def append_run(record: RunRecord, path: Path) -> None:
    """Add a run to a runs table (CSV, TSV or Parquet), or make a table of it.

    A row of the same series and name is replaced, but if it has the same N and D, cells that the record has no value
    for are kept: scores of other tasks. Other rows, other columns and the names of columns are not changed. Commands
    that append at the same time wait for each other.

    Raises:
        UserError: the file is not a runs table, or would not be one with this run; it is not changed.
    """
    path = Path(path)
    with file_lock(path):
        table = read_frame(path) if path.exists() else pl.DataFrame()
        values = _with_names_and_units_of(table, record.row())
        row = pl.DataFrame([_kept_cells(record, table, values) | values], infer_schema_length=None)
        if path.suffix != ".parquet":  # the other rows are text, and are written as they were read
            row = row.cast(pl.String)
        others = table.filter(~_is_row_of(record, table))
        joined = pl.concat([others, row], how="diagonal_relaxed")
        canonical_table(joined, source=f"{path} with {record.run}")
        write_file(path, _serialize(joined, path))


def _with_names_and_units_of(table: pl.DataFrame, row: dict[str, object]) -> dict[str, object]:
    """A row under the column names of a table, with scores in percent where the table's are."""
    short = {long: short for short, long in ALIASES.items() if short in table.columns}
    for name in set(row) & set(table.columns):
        largest, score = table[name].cast(pl.Float64, strict=False).max(), row[name]
        in_percent = isinstance(largest, float) and largest > 1
        if in_percent and isinstance(score, float) and is_score(name, table.columns):
            row[name] = 100 * score
    return {short.get(name, name): value for name, value in row.items()}


def _kept_cells(record: RunRecord, table: pl.DataFrame, values: dict[str, object]) -> dict[str, object]:
    """Cells of the run's previous row that `values` has no column for; none where N or D were others."""
    size = [name for name in ("N", "params", "D", "tokens") if name in values]
    for row in table.filter(_is_row_of(record, table)).iter_rows(named=True):
        before = pl.Series([row.get(name) for name in size]).cast(pl.Float64, strict=False).to_list()
        if before == [values[name] for name in size]:
            return {name: cell for name, cell in row.items() if name not in values}
    return {}


def _is_row_of(record: RunRecord, table: pl.DataFrame) -> pl.Expr:
    if not {"run", "series"} <= set(table.columns):
        return pl.lit(False)
    same = (pl.col("run").cast(pl.String) == record.run) & (pl.col("series").cast(pl.String) == record.series)
    return same.fill_null(False)


def _serialize(table: pl.DataFrame, path: Path) -> bytes:
    if path.suffix == ".parquet":
        buffer = BytesIO()
        table.write_parquet(buffer)
        return buffer.getvalue()
    return table.write_csv(separator=separator_of(path)).encode()


def write_curves(records: list[RunRecord], path: Path) -> None:
    """Write the learning curves as CSV: run, series, params, step, tokens, flops, loss."""
    rows = [
        {
            "run": record.run,
            "series": record.series,
            "params": record.params,
            "step": point.step,
            "tokens": point.tokens,
            "flops": training_flops(record.params, point.tokens),
            "loss": point.loss,
        }
        for record in records
        for point in record.curve
    ]
    write_file(path, pl.DataFrame(rows, infer_schema_length=None).write_csv())


def read_table(path: Path, scores: Sequence[str] = ()) -> pl.DataFrame:
    """Read a runs table (CSV, TSV or Parquet) and check every cell; see `canonical_table` for what comes back.

    Args:
        path: of the table.
        scores: columns that are scores though nothing else says so.

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    return canonical_table(read_frame(path), source=str(path), scores=scores)


def read_curves(path: Path) -> pl.DataFrame:
    """Read learning curves, as `write_curves` writes them.

    Returns:
        Columns run and series (text), params, tokens, loss and flops (Float64).

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    table = read_frame(path).rename(ALIASES, strict=False)
    _require_columns(table, ("run", *REQUIRED_COLUMNS), str(path))
    if "series" not in table.columns:
        table = table.with_columns(series=pl.lit("runs"))
    numbers = [
        _require_positive(_parse_numbers(table, name, str(path)), str(path)) for name in REQUIRED_COLUMNS
    ]
    table = table.select("run", "series").cast(pl.String).with_columns(numbers)
    return table.with_columns(flops=training_flops(pl.col("params"), pl.col("tokens")))


def read_design(path: Path) -> pl.DataFrame:
    """Read params and tokens of planned runs: a runs table that need not have losses.

    Returns:
        Columns params and tokens, Float64; flops (Float64) and run (String) where the table has them.

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    table = read_frame(path).rename(ALIASES, strict=False)
    _require_columns(table, ("params", "tokens"), str(path))
    if table.height == 0:
        raise UserError(f"{path}: the table has no rows; one row a run is wanted.")
    numbers = [name for name in ("params", "tokens", "flops") if name in table.columns]
    columns = [_require_positive(_parse_numbers(table, name, str(path)), str(path)) for name in numbers]
    if "run" in table.columns:
        columns.append(table["run"].cast(pl.String))
    return pl.DataFrame(columns)


def canonical_table(frame: Any, *, source: str = "runs", scores: Sequence[str] = ()) -> pl.DataFrame:
    """Check any data frame of runs, and give its columns canonical names and types.

    Args:
        frame: a polars, pandas or Arrow table, a mapping of columns, or a list of rows.
        source: its name in error messages.
        scores: columns that are scores though nothing else says so (`records.score_columns`).

    Returns:
        Columns run, series, status (text), params, tokens, unique_tokens, flops, loss (Float64; loss is null where
        status is not "done"); columns of RECIPE_NAMES (text) where the table has them; scores as fractions, and all
        other numeric columns. Counts are floating point, because 6 N D of a large run does not fit 64 bits.

    Raises:
        UserError: naming row, column and remedy of the first thing that is wrong.
    """
    table = as_frame(frame, source)
    clashes = [
        f"{short} and {long}" for short, long in ALIASES.items() if {short, long} <= set(table.columns)
    ]
    if clashes:
        raise UserError(f"{source}: columns {clashes[0]} name the same thing; keep one of them.")
    table = table.rename(ALIASES, strict=False)
    if table.height == 0:
        raise UserError(f"{source}: the table has no rows; one row a run is wanted.")
    if table.height > MAX_RUNS:
        raise UserError(
            f"{source}: {table.height} rows are no table of runs ({MAX_RUNS} at most, one row a run); was a table of "
            "items or of learning curves given by mistake?"
        )
    for name in scores:
        _require_columns(table, (name,), source)
    if "loss" not in table.columns and any(is_score(name, table.columns, scores) for name in table.columns):
        # Published models have scores on benchmarks, and no loss on a test set of ours.
        table = table.with_columns(loss=pl.lit(None, pl.Float64), status=pl.lit("imported"))
    _require_columns(table, REQUIRED_COLUMNS, source)
    table = _with_identity_columns(table, source)

    done = table["status"] == "done"
    table = table.with_columns(loss=pl.when(done).then("loss"))  # a failed run may have any value there
    columns: list[pl.Series] = [table[name] for name in ("run", "series", "status")]
    columns += [table[name].cast(pl.String) for name in recipe_columns(table)]
    columns += [
        _require_positive(_parse_numbers(table, name, source), source) for name in ("params", "tokens")
    ]
    loss = _parse_numbers(table, "loss", source, needed=done)
    columns.append(_require_positive(loss, source))
    canonical = pl.DataFrame(columns)
    for name, default in (
        ("unique_tokens", pl.col("tokens")),
        ("flops", training_flops(pl.col("params"), pl.col("tokens"))),
    ):
        if name in table.columns:
            values = _require_positive(
                _parse_numbers(table, name, source, needed=~pl.repeat(True, table.height, eager=True)), source
            )
            canonical = canonical.with_columns(values.fill_null(canonical.select(default).to_series()))
        else:
            canonical = canonical.with_columns(default.alias(name))
    return canonical.with_columns(_optional_numbers(table, set(canonical.columns), scores, source))


def recipe_columns(table: pl.DataFrame) -> list[str]:
    """Columns that say how runs were made, and must be the same for all runs of one law."""
    return [name for name in table.columns if name.lower() in RECIPE_NAMES]


def is_single_epoch() -> pl.Expr:
    """Whether each run of a canonical table saw every token once."""
    return pl.col("tokens") <= pl.col("unique_tokens") * SINGLE_EPOCH_TOLERANCE


def _require_columns(table: pl.DataFrame, wanted: tuple[str, ...], source: str) -> None:
    for name in wanted:
        if name not in table.columns:
            raise UserError(
                f"{source}: column '{name}' is missing{nearest(name, table.columns)}; found "
                f"{', '.join(table.columns)}. N, D, C and L are understood as params, tokens, flops and loss."
            )


def _with_identity_columns(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """Fill in missing run, series and status; names must be unique within a series."""
    if "run" not in table.columns:
        table = table.with_columns(run=pl.format("row {}", pl.int_range(1, pl.len() + 1)))
    for name, default in (("series", "runs"), ("status", "done")):
        column = pl.col(name).cast(pl.String).fill_null(default) if name in table.columns else pl.lit(default)
        table = table.with_columns(column.alias(name))
    table = table.with_columns(pl.col("run").cast(pl.String))
    unnamed = table["run"].is_null()
    if unnamed.any():
        row = int(unnamed.arg_true()[0]) + 1
        raise UserError(
            f"{source}: row {row}, column 'run': the cell is empty; give every run a name of its own, or drop the row."
        )
    names = table.select(pl.struct("series", "run")).to_series()
    duplicated = names.is_duplicated()
    if duplicated.any():
        first = names[int(duplicated.arg_true()[0])]
        rows = [row + 1 for row, name in enumerate(names) if name == first][:2]
        raise UserError(
            f"{source}: rows {rows[0]} and {rows[1]}, column 'run': the name {first['run']!r} occurs twice; "
            "give every run a name of its own."
        )
    return table


def _parse_numbers(table: pl.DataFrame, name: str, source: str, needed: pl.Series | None = None) -> pl.Series:
    """A column as Float64; every cell must be a finite number, except empty ones where not `needed`."""
    raw = table[name]
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars().replace("", None)
    elif raw.dtype.is_float() and needed is not None:  # data frames mark missing values by NaN
        raw = raw.set(raw.is_nan() & ~needed, None)
    values = raw.cast(pl.Float64, strict=False)
    wrong = (raw.is_not_null() & values.is_null()) | ~values.is_finite().fill_null(True)
    empty = raw.is_null() if needed is None else raw.is_null() & needed
    for problem, found in ((wrong, "{!r} is not a finite number"), (empty, "the cell is empty")):
        if problem.any():
            row = int(problem.arg_true()[0])
            raise UserError(
                f"{source}: row {row + 1}, column '{name}': {found.format(table[name][row])}; {_remedy(name)}."
            )
    return values.alias(name)


def _remedy(name: str) -> str:
    if name == "loss":
        return "write a plain number such as 2.31, or give a run without a loss a status other than 'done'"
    if name in (*REQUIRED_COLUMNS, "weight"):
        return "write a plain number such as 1e9, or remove the run"
    return "write a plain number, leave the cell empty, or drop the column"


def _require_positive(values: pl.Series, source: str) -> pl.Series:
    raise_where(values, values <= 0, source, "is not above zero; correct the value or remove the run")
    return values


def _optional_numbers(
    table: pl.DataFrame, present: set[str], scores: Sequence[str], source: str
) -> list[pl.Series]:
    """The other numeric columns, scores as fractions; columns of text are dropped."""
    nowhere = pl.repeat(False, table.height, eager=True)
    columns = []
    for name in table.columns:
        if (
            not name
            or name.startswith(UNNAMED_PREFIXES)
            or name in present
            or name in TEXT_COLUMNS
            or _is_text(table[name])
        ):
            continue
        needed = table["status"] == "done" if name == "weight" else nowhere
        values = _parse_numbers(table, name, source, needed=needed)
        columns.append(check_range(values, is_score(name, table.columns, scores), source))
    return columns


def _is_text(column: pl.Series) -> bool:
    """Whether no cell of a column is a number: a column of labels, rather than numbers with a wrong cell."""
    if column.dtype.is_numeric():
        return False
    return column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).null_count() == len(column)
