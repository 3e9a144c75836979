"""Which columns of a runs table are scores, and what chance they have.

A numeric column is a score where it is named so: by the caller, by a column `<score>_items` or `<score>_chance` beside
it, or by being a known benchmark. No other column is taken for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from speechscale.errors import UserError

# Numbers about a run that are no scores of it.
NON_SCORE_COLUMNS = frozenset(
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
# Score of guessing on known benchmarks: of two-way choices 0.5, of four-way ones 0.25, of free answers 0.
KNOWN_CHANCES = {
    **dict.fromkeys(("lexical", "minimal_pairs", "sstorycloze", "tstorycloze"), 0.5),
    **dict.fromkeys(("swuggy", "sblimp", "blimp", "storycloze", "salmon", "piqa", "winogrande"), 0.5),
    **dict.fromkeys(("boolq", "copa", "rte", "wsc"), 0.5),
    **dict.fromkeys(("hellaswag", "arc_easy", "arc_challenge", "mmlu", "openbookqa", "sciq"), 0.25),
    **dict.fromkeys(("lambada", "triviaqa", "naturalqs", "squad"), 0.0),
}
_SUFFIXES = ("_items", "_chance")
_UNSEEN = "_unseen"  # the same benchmark in voices that no model heard in training


def known_chance(name: str) -> float | None:
    """Chance of a known benchmark, of one of its phenomena ("blimp.agreement") or in new voices; None for others."""
    return KNOWN_CHANCES.get(name.lower().partition(".")[0].removesuffix(_UNSEEN))


def chance_of(table: pl.DataFrame, name: str) -> float | None:
    """Score of guessing: of the first run that states it, because it belongs to the task; else as known; else None."""
    if f"{name}_chance" in table.columns:
        given = table[f"{name}_chance"].drop_nulls()
        if len(given):
            return float(given[0])
    return known_chance(name)


def is_score(name: str, columns: Sequence[str], named: Sequence[str] = ()) -> bool:
    """Whether a column of a table with these columns is a score.

    Args:
        name: of the column.
        columns: all columns of the table.
        named: columns that the caller calls scores.
    """
    if name in NON_SCORE_COLUMNS or name.endswith(_SUFFIXES):
        return False
    return (
        name in named
        or any(name + suffix in columns for suffix in _SUFFIXES)
        or known_chance(name) is not None
    )


def score_names(table: pl.DataFrame, named: Sequence[str] = ()) -> list[str]:
    """Columns of a canonical table that are scores."""
    return [
        name
        for name, kind in table.schema.items()
        if kind == pl.Float64 and is_score(name, table.columns, named)
    ]


def unused_names(table: pl.DataFrame, named: Sequence[str] = ()) -> list[str]:
    """Numeric columns of a canonical table that nothing is known of, so that nothing is fitted to them."""
    return [
        name
        for name, kind in table.schema.items()
        if kind == pl.Float64
        and name not in NON_SCORE_COLUMNS
        and not name.endswith(_SUFFIXES)
        and not is_score(name, table.columns, named)
    ]


def independent_items(table: pl.DataFrame, name: str) -> pl.Series:
    """Number of independent answers behind a score of each run, Float64; null where unknown.

    It is `<score>_effective_items` where the table has it, which clusters of items make smaller, and at most
    `<score>_items`: a larger one is the luck of one run.
    """
    nominal, effective = (
        table.get_column(name + suffix, default=pl.repeat(None, table.height, dtype=pl.Float64, eager=True))
        for suffix in ("_items", "_effective_items")
    )
    return table.select(pl.min_horizontal(nominal, effective).alias(name)).to_series()


def check_range(values: pl.Series, score: bool, source: str) -> pl.Series:
    """The column, a score as a fraction, after a check that its values are possible.

    Raises:
        UserError: naming source, row and column of the first impossible value.
    """
    if values.name.endswith("_items"):
        raise_where(values, values <= 0, source, "is not above zero; correct the value or remove the run")
    elif values.name.endswith("_chance"):
        outside = (values < 0) | (values >= 1)
        raise_where(values, outside, source, "is no score of guessing; a fraction in [0, 1) is wanted")
    elif values.name == "weight":
        raise_where(values, values < 0, source, "is no weight; zero or more is wanted")
    return _as_fraction(values, source) if score else values


def raise_where(values: pl.Series, problem: pl.Series, source: str, reason: str) -> None:
    """Raise for the first row where `problem` is true."""
    if problem.any():
        row = int(problem.arg_true()[0])
        raise UserError(f"{source}: row {row + 1}, column '{values.name}': {values[row]:g} {reason}.")


def _as_fraction(score: pl.Series, source: str) -> pl.Series:
    remedy = "or drop the column if it is not a score"
    outside = (score < 0) | (score > 100)
    raise_where(score, outside, source, f"is no score in [0, 1] or [0, 100]; correct it, {remedy}")
    percent, fraction = (score > 1).fill_null(False), ((score <= 1) & (score > 0)).fill_null(False)
    if not percent.any():
        return score
    if fraction.any():
        high, low = int(percent.arg_true()[0]), int(fraction.arg_true()[0])
        raise UserError(
            f"{source}: column '{score.name}' mixes percent and fractions: row {high + 1} holds {score[high]:g}, "
            f"row {low + 1} holds {score[low]:g}; use one of the two throughout, {remedy}."
        )
    return score / 100
