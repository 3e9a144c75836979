"""Checks of a table of runs before any fit, each reported in one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from speechscale.records.flops import training_flops
from speechscale.records.law_sections import Check
from speechscale.records.runs_table import recipe_columns

MAX_WARMUP_SHARE = 0.1  # of the steps of a run
NAMED_RUNS = 3  # of a group, in a sentence
MAX_FLOPS_DEVIATION = 1.05  # factor between the flops column and 6 N D


def check_table(done: pl.DataFrame, unused: Sequence[str] = ()) -> list[Check]:
    """Checks of the completed runs of one series, before any fit.

    Args:
        done: the runs.
        unused: numeric columns that are not known to be scores.
    """
    found = [
        _unused_columns(unused),
        _embedding_counts(done),
        _warmup(done),
        *_mixed_recipes(done),
        _flops_convention(done),
    ]
    return [check for check in found if check]


def _unused_columns(names: Sequence[str]) -> Check | None:
    if not names:
        return None
    listed = ", ".join(names)
    return Check.of(
        "unused columns",
        f"nothing is fitted to {listed}: not known to be scores. A score has a column <score>_items or <score>_chance, "
        f"or is named, as in --scores {names[0]}.",
        "note",
    )


def _embedding_counts(done: pl.DataFrame) -> Check | None:
    if "params_total" not in done.columns:
        return None
    excess = done["params_total"] - done["params"]
    if (excess < 0).any():
        run = done["run"][int((excess < 0).arg_true()[0])]
        return Check.of(
            "embedding counts", f"run {run!r} has more non-embedding than total parameters.", run=run
        )
    if (excess == 0).any() and (excess > 0).any():
        return Check.of(
            "embedding counts",
            "some runs count the same with and without embeddings and others do not: N seems to mix both counts.",
        )
    return None


def _warmup(done: pl.DataFrame) -> Check | None:
    if not {"steps", "warmup_steps"} <= set(done.columns):
        return None
    long = done.filter(pl.col("warmup_steps") > MAX_WARMUP_SHARE * pl.col("steps"))
    if not long.height:
        return None
    return Check.of(
        "warm-up",
        f"{long.height} runs spend more than {MAX_WARMUP_SHARE:.0%} of their steps in warm-up (the first: "
        f"{long['run'][0]!r}): their losses are those of another recipe.",
        runs=long["run"].to_list(),
    )


def _mixed_recipes(done: pl.DataFrame) -> list[Check]:
    """Runs of several recipes, whose losses differ by more than size and data."""
    found = []
    for name in recipe_columns(done):
        values = done[name].fill_null("not recorded")
        if values.n_unique() > 1:
            runs = {value: done["run"].filter(values == value).to_list() for value in values.unique().sort()}
            listing = "; ".join(
                f"{name} {value!r}: {_named(runs[value])}" for value in sorted(runs, key=_rank(runs))
            )
            found.append(
                Check.of(
                    f"mixed {name}",
                    f"one law is fitted to runs of several recipes ({listing}): part of it is the difference between "
                    f"them. Fit each as a series of its own: copy {name!r} into a column 'series'.",
                    runs={value: [*names] for value, names in runs.items()},
                )
            )
    return found


def _rank(runs: dict[str, list[str]]) -> Callable[[str], tuple[int, str]]:
    """Order of values: the most frequent first."""
    return lambda value: (-len(runs[value]), value)


def _named(runs: Sequence[str]) -> str:
    """Number of runs, with the names of the first few."""
    shown = ", ".join(repr(run) for run in runs[:NAMED_RUNS])
    more = "" if len(runs) <= NAMED_RUNS else ", ..."
    return f"{len(runs)} run{'s' * (len(runs) != 1)} ({shown}{more})"


def _flops_convention(done: pl.DataFrame) -> Check | None:
    ratio = (done["flops"] / training_flops(done["params"], done["tokens"])).to_numpy()
    if not len(ratio) or np.abs(np.log(ratio)).max() < np.log(MAX_FLOPS_DEVIATION):
        return None
    return Check.of(
        "flops convention",
        f"the flops column is {ratio.min():.3g} to {ratio.max():.3g} times 6 N D; the envelope and the scores use the "
        "column, the best split uses 6 N D.",
        level="note",
    )
