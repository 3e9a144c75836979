"""RunRecord, one trained model on record, and the runs table that laws are fitted to."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from speechscale.errors import UserError, nearest
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.frames import as_frame, read_frame, separator_of
from speechscale.records.revisions import Stage, revisions_of
from speechscale.records.seal import file_lock, write_file, write_json

Status = Literal[
    "done", "diverged", "failed", "imported"
]  # the last: trained elsewhere, so 0 where not known

ALIASES = {"N": "params", "D": "tokens", "C": "flops", "L": "loss"}
REQUIRED = ("params", "tokens", "loss")
NAMELESS = ("Unnamed: ", "_duplicated_")  # how pandas and polars call columns without a name: saved indices
RECIPE = ("preset", "schedule")  # text that a law must know of: runs of several are not of one kind
TEXT = ("run", "series", "status", *RECIPE, "note")
# Numbers about a run that are not scores of it; any other numeric column is a score.
NOT_SCORES = frozenset(
    [
        "params",
        "params_total",
        "params_embedding",
        "tokens",
        "unique_tokens",
        "epochs",
        "steps",
        "step",
        "warmup_steps",
        "flops",
        "flops_exact",
        "flops_spent",
        "loss",
        "loss_se",
        "bits_per_second",
        "seconds",
        "seed",
        "lr",
        "learning_rate",
        "batch_size",
        "tokens_per_update",
        "layers",
        "depth",
        "dim",
        "width",
        "heads",
        "context",
        "gpu_hours",
        "hours",
        "audio_hours",
        "weight",
    ]
)
MOST_RUNS = 100_000  # draws times runs must fit in memory, and nobody has trained as many


class Score(BaseModel):
    """Accuracy of one task in one condition, in [0, 1], with its 95 % interval over items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    low: float
    high: float
    items: int
    chance: float = 0.5


class CurvePoint(BaseModel):
    """Test loss read during training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens: int
    loss: float


class RunRecord(BaseModel):
    """One run: how large, how long, how good. Losses are nats per token on the natural-speech test set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    series: str
    status: Status
    preset: str  # whose recipe: see train/loop.py
    seed: int
    params: int  # N: non-embedding parameters
    params_total: int
    tokens: int  # D: tokens seen, repeats counted
    unique_tokens: int
    epochs: float
    steps: int
    flops: float  # 6 N D
    flops_exact: float  # with attention and the output projection
    loss: float | None  # None unless status is "done"
    loss_se: float | None
    bits_per_second: float | None  # loss per second of audio, comparable across tokenizers
    seconds: float  # wall clock of training and test
    schedule: str = "cosine"
    warmup_steps: int | None = None  # None in records from before it was kept
    flops_spent: float | None = None  # 6 N times tokens of its own steps, so of a branch without its trunk's
    curve: tuple[CurvePoint, ...] = ()
    scores: dict[str, Score] = {}
    note: str = ""  # why a run diverged or failed
    code: CodeIdentity | None = None  # that trained and scored; None before the record is first written
    revisions: dict[str, int] = {}  # of the stages that made it

    def row(self) -> dict[str, object]:
        """The run as one row of the runs table."""
        row = self.model_dump(exclude={"curve", "scores", "note", "code", "revisions"})
        for name, score in sorted(self.scores.items()):
            row[name] = score.accuracy
            row[f"{name}_items"] = score.items
        return row


def write_record(record: RunRecord, path: Path) -> RunRecord:
    """Write a record, and return it as written: the first time, the code and the revisions of its stages are added.

    Raises:
        CannotWrite: the operating system refuses.
    """
    if record.code is None:
        stages: tuple[Stage, ...] = ("score",) if record.status == "imported" else ("train", "score")
        record = record.model_copy(update={"code": code_identity(), "revisions": revisions_of(*stages)})
    write_json(path, record.model_dump(mode="json"))
    return record


def read_record(path: Path) -> RunRecord:
    """Read one run record.

    Raises:
        UserError: the file is no run record.
    """
    try:
        return RunRecord.model_validate(json.loads(Path(path).read_text()))
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(f"{path}: not a run record ({error}).") from error


def write_table(records: list[RunRecord], path: Path) -> None:
    """Write the runs table as CSV, one row a run, in the order of the records."""
    table = pl.DataFrame([record.row() for record in records], infer_schema_length=None)
    write_file(path, table.write_csv())


def append_run(record: RunRecord, path: Path) -> None:
    """Put a run into a runs table (CSV, TSV or Parquet), in place of one of the same series and name; a new table if
    there is none. Of the same run at the same N and D, cells that it has no new value for stay: scores of other tasks.
    Other rows, other columns and the names of columns stay as they are; commands that do the same at the same time wait
    for each other.

    Raises:
        UserError: what stands there is no runs table, or would be none with this run; it is left as it was.
    """
    path = Path(path)
    with file_lock(path):
        table = read_frame(path) if path.exists() else pl.DataFrame()
        values = _as_in(table, record.row())
        row = pl.DataFrame([_scored_before(record, table, values) | values], infer_schema_length=None)
        if path.suffix != ".parquet":  # text cells stay as somebody wrote them
            row = row.cast(pl.String)
        joined = pl.concat([_without(record, table), row], how="diagonal_relaxed")
        canonical_table(joined, source=f"{path} with {record.run}")
        write_file(path, _bytes(joined, path))


def _as_in(table: pl.DataFrame, row: dict[str, object]) -> dict[str, object]:
    """A row under the column names of a table, scores in percent where its are."""
    short = {long: short for short, long in ALIASES.items() if short in table.columns}
    for name in set(row) & set(table.columns):
        percent = table[name].cast(pl.Float64, strict=False).max()
        score = row[name]
        if not _is_known(name) and isinstance(score, float) and isinstance(percent, float) and percent > 1:
            row[name] = 100 * score
    return {short.get(name, name): value for name, value in row.items()}


def _scored_before(record: RunRecord, table: pl.DataFrame, values: dict[str, object]) -> dict[str, object]:
    """Cells of the run's row under names that it has no value for now; none of a row of another N or D."""
    size = [name for name in ("N", "params", "D", "tokens") if name in values]
    for row in table.filter(_is(record, table)).iter_rows(named=True):
        before = pl.Series([row.get(name) for name in size]).cast(pl.Float64, strict=False).to_list()
        if before == [values[name] for name in size]:
            return {name: cell for name, cell in row.items() if name not in values}
    return {}


def _without(record: RunRecord, table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(~_is(record, table))


def _is(record: RunRecord, table: pl.DataFrame) -> pl.Expr:
    if not {"run", "series"} <= set(table.columns):
        return pl.lit(False)
    same = (pl.col("run").cast(pl.String) == record.run) & (pl.col("series").cast(pl.String) == record.series)
    return same.fill_null(False)


def _bytes(table: pl.DataFrame, path: Path) -> bytes:
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
            "flops": 6.0 * record.params * point.tokens,
            "loss": point.loss,
        }
        for record in records
        for point in record.curve
    ]
    write_file(path, pl.DataFrame(rows, infer_schema_length=None).write_csv())


def read_table(path: Path) -> pl.DataFrame:
    """Read a runs table (CSV, TSV or Parquet) and check every cell; see `canonical_table` for what comes back.

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    return canonical_table(read_frame(path), source=str(path))


def read_curves(path: Path) -> pl.DataFrame:
    """Read learning curves (as `write_curves` writes them): run, series, params, tokens, flops, loss.

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    table = read_frame(path).rename(ALIASES, strict=False)
    _demand_columns(table, ("run", *REQUIRED), str(path))
    if "series" not in table.columns:
        table = table.with_columns(series=pl.lit("runs"))
    numbers = [_positive(_number(table, name, str(path)), str(path)) for name in REQUIRED]
    table = table.select("run", "series").cast(pl.String).with_columns(numbers)
    return table.with_columns(flops=6.0 * pl.col("params") * pl.col("tokens"))


def read_design(path: Path) -> pl.DataFrame:
    """Read params and tokens of runs that are only thought of: a runs table that need not have losses.

    Raises:
        UserError: naming file, row, column and remedy of the first thing that is wrong.
    """
    path = Path(path)
    table = read_frame(path).rename(ALIASES, strict=False)
    _demand_columns(table, ("params", "tokens"), str(path))
    if table.height == 0:
        raise UserError(f"{path}: the table has no rows; one row a run is wanted.")
    return pl.DataFrame(
        [_positive(_number(table, name, str(path)), str(path)) for name in ("params", "tokens")]
    )


def canonical_table(frame: Any, *, source: str = "runs") -> pl.DataFrame:
    """Any data frame of runs, checked, with canonical names and types.

    Always present afterwards: run, series, status (text), params, tokens, unique_tokens, flops, loss (Float64; loss
    is null where status is not "done"). Counts become floating point before anything is multiplied: 6 N D of a
    large run does not fit 64 bits. Scores come back as fractions. preset and schedule stay where they are given.

    Args:
        frame: a polars, pandas or Arrow table, a mapping of columns, or a list of rows.
        source: what to call it in messages.

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
    if table.height > MOST_RUNS:
        raise UserError(
            f"{source}: {table.height} rows are no table of runs ({MOST_RUNS} at most, one row a run); was a table of "
            "items or of learning curves given by mistake?"
        )
    _demand_columns(table, REQUIRED, source)
    table = _with_names(table, source)

    done = table["status"] == "done"
    table = table.with_columns(loss=pl.when(done).then("loss"))  # a run that failed may have written anything
    columns: list[pl.Series] = [table[name] for name in ("run", "series", "status")]
    columns += [table[name].cast(pl.String) for name in RECIPE if name in table.columns]
    columns += [_positive(_number(table, name, source), source) for name in ("params", "tokens")]
    loss = _number(table, "loss", source, needed=done)
    columns.append(_positive(loss, source))
    canonical = pl.DataFrame(columns)
    for name, default in (
        ("unique_tokens", pl.col("tokens")),
        ("flops", 6.0 * pl.col("params") * pl.col("tokens")),
    ):
        if name in table.columns:
            given = _positive(
                _number(table, name, source, needed=~pl.repeat(True, table.height, eager=True)), source
            )
            canonical = canonical.with_columns(given.fill_null(canonical.select(default).to_series()))
        else:
            canonical = canonical.with_columns(default.alias(name))
    return canonical.with_columns(_other_numbers(table, set(canonical.columns), source))


def score_names(table: pl.DataFrame) -> list[str]:
    """Columns of a canonical table that hold scores."""
    return [name for name, kind in table.schema.items() if kind == pl.Float64 and not _is_known(name)]


def _demand_columns(table: pl.DataFrame, wanted: tuple[str, ...], source: str) -> None:
    for name in wanted:
        if name not in table.columns:
            raise UserError(
                f"{source}: column '{name}' is missing{nearest(name, table.columns)}; found "
                f"{', '.join(table.columns)}. N, D, C and L are understood as params, tokens, flops and loss."
            )


def _with_names(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """Fill in run, series and status, and refuse a name that occurs twice in a series."""
    if "run" not in table.columns:
        table = table.with_columns(run=pl.format("row {}", pl.int_range(1, pl.len() + 1)))
    for name, default in (("series", "runs"), ("status", "done")):
        column = pl.col(name).cast(pl.String).fill_null(default) if name in table.columns else pl.lit(default)
        table = table.with_columns(column.alias(name))
    table = table.with_columns(pl.col("run").cast(pl.String))
    nameless = table["run"].is_null()
    if nameless.any():
        row = int(nameless.arg_true()[0]) + 1
        raise UserError(
            f"{source}: row {row}, column 'run': the cell is empty; give every run a name of its own, or drop the row."
        )
    names = table.select(pl.struct("series", "run")).to_series()
    twice = names.is_duplicated()
    if twice.any():
        first = names[int(twice.arg_true()[0])]
        rows = [row + 1 for row, name in enumerate(names) if name == first][:2]
        raise UserError(
            f"{source}: rows {rows[0]} and {rows[1]}, column 'run': the name {first['run']!r} occurs twice; "
            "give every run a name of its own."
        )
    return table


def _number(table: pl.DataFrame, name: str, source: str, needed: pl.Series | None = None) -> pl.Series:
    """A column as Float64; every cell must be a finite number, except empty ones where not `needed`."""
    raw = table[name]
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars().replace("", None)
    elif raw.dtype.is_float() and needed is not None:  # in a frame NaN marks a value that is not there
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
    if name in (*REQUIRED, "weight"):
        return "write a plain number such as 1e9, or remove the run"
    return "write a plain number, leave the cell empty, or drop the column"


def _refuse(values: pl.Series, problem: pl.Series, source: str, why: str) -> None:
    if problem.any():
        row = int(problem.arg_true()[0])
        raise UserError(f"{source}: row {row + 1}, column '{values.name}': {values[row]:g} {why}.")


def _positive(values: pl.Series, source: str) -> pl.Series:
    _refuse(values, values <= 0, source, "is not above zero; correct the value or remove the run")
    return values


def _other_numbers(table: pl.DataFrame, taken: set[str], source: str) -> list[pl.Series]:
    """Further numeric columns; scores checked and turned into fractions. Columns of text are left behind."""
    nowhere = pl.repeat(False, table.height, eager=True)
    columns = []
    for name in table.columns:
        if not name or name.startswith(NAMELESS) or name in taken or name in TEXT or _is_text(table[name]):
            continue
        needed = table["status"] == "done" if name == "weight" else nowhere
        columns.append(_in_range(_number(table, name, source, needed=needed), source))
    return columns


def _in_range(values: pl.Series, source: str) -> pl.Series:
    """A further column once its values have been found possible; scores as fractions."""
    if values.name.endswith("_items"):
        return _positive(values, source)
    if values.name.endswith("_chance"):
        outside = (values < 0) | (values >= 1)
        _refuse(values, outside, source, "is no score of guessing; a fraction in [0, 1) is wanted")
    if values.name == "weight":
        _refuse(values, values < 0, source, "is no weight; zero or more is wanted")
    return values if _is_known(values.name) else _fraction(values, source)


def _is_known(name: str) -> bool:
    """Whether a column is not a score by its name."""
    return name in NOT_SCORES or name.endswith(("_items", "_chance"))


def _is_text(column: pl.Series) -> bool:
    """Whether not one cell of a column is a number: a column of labels, rather than a number gone wrong."""
    if column.dtype.is_numeric():
        return False
    return column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).null_count() == len(column)


def _fraction(score: pl.Series, source: str) -> pl.Series:
    drop = "or drop the column if it is not a score"
    outside = (score < 0) | (score > 100)
    _refuse(score, outside, source, f"is no score in [0, 1] or [0, 100]; correct it, {drop}")
    percent, fraction = (score > 1).fill_null(False), ((score <= 1) & (score > 0)).fill_null(False)
    if not percent.any():
        return score
    if fraction.any():
        high, low = int(percent.arg_true()[0]), int(fraction.arg_true()[0])
        raise UserError(
            f"{source}: column '{score.name}' mixes percent and fractions: row {high + 1} holds {score[high]:g}, "
            f"row {low + 1} holds {score[low]:g}; use one of the two throughout, {drop}."
        )
    return score / 100
