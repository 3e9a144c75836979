"""Scoring conventions: presets of published evaluations, and the answer of each pair by a convention."""

from __future__ import annotations

from typing import Literal

import polars as pl

from speechscale.errors import UserError, nearest
from speechscale.records.scores import Convention

ConventionPreset = Literal["official", "zerospeech", "slamkit"]

PRESETS: dict[ConventionPreset, Convention] = {
    # The released code of the study.
    "official": Convention(),
    # A submission may hold any score; the sum is the log-likelihood itself.
    "zerospeech": Convention(preset="zerospeech", nll="sum", ties="half", headline="micro"),
    # Template `<S> … <S>`; every pair of recordings counts.
    "slamkit": Convention(preset="slamkit", terminal=True, ties="half", voices="pairs", headline="micro"),
}


def convention_from_preset(preset: str, **switches: object) -> Convention:
    """A preset, with the switches that are not None in place of its values.

    Raises:
        UserError: there is no such preset.
    """
    known = {str(name): value for name, value in PRESETS.items()}
    if preset not in known:
        raise UserError(f"no preset is called {preset!r}{nearest(preset, set(known))}: {', '.join(known)}.")
    changed = {name: value for name, value in switches.items() if value is not None}
    base = known[preset]
    if all(getattr(base, name) == value for name, value in changed.items()):
        return base
    return Convention.model_validate(base.model_dump() | changed | {"preset": f"{preset}, changed"})


def with_correct(scores: pl.DataFrame, convention: Convention) -> pl.DataFrame:
    """A score table with a column `correct`: 1, 0, or the value of a tie; null where a pair has no score.

    Raises:
        UserError: only endings are to be scored, and a pair does not say where its prompt ends; the pair is named.
    """
    if convention.given == "prompt":
        unknown = scores.filter(pl.col("units_prompt").is_null())
        if unknown.height:
            raise UserError(
                f"{unknown['task'][0]}/{unknown['pair_id'][0]}: where its prompt ends is not known (so for "
                f"{unknown.height} of {scores.height} pairs); score prompt and ending together."
            )
    right, wrong = (compared_nll(member, convention) for member in ("correct", "wrong"))
    tie = pl.lit(0.5 if convention.ties == "half" else 0.0)
    if convention.ties == "by-task":
        tie = pl.when(pl.col("task").str.contains("(?i)storycloze")).then(0.0).otherwise(0.5)
    correct = pl.when(right < wrong).then(1.0).when(right == wrong).then(tie).when(right > wrong).then(0.0)
    return scores.with_columns(correct.alias("correct"))


def unscored_pairs(scores: pl.DataFrame, convention: Convention) -> list[str]:
    """Pairs without an answer by a convention: task/pair_id of each."""
    without = with_correct(scores, convention).filter(pl.col("correct").is_null())
    return [f"{task}/{pair_id}" for task, pair_id in without.select("task", "pair_id").iter_rows()]


def compared_nll(member: str, convention: Convention) -> pl.Expr:
    """The negative log-likelihood that decides for a member ("correct" or "wrong"); null where no unit is scored."""
    nll, units = pl.col(f"nll_{member}"), pl.col(f"units_{member}")
    if convention.given == "prompt":
        nll, units = nll - pl.col("nll_prompt"), units - pl.col("units_prompt")
    if convention.terminal:
        nll, units = nll + pl.col(f"nll_end_{member}"), units + 1
    return pl.when(units > 0).then(nll / units if convention.nll == "mean" else nll)
