"""Per-item scores of one model: the likelihood of both members of every pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import polars as pl
import torch

from speechscale.errors import UserError
from speechscale.evals.tasks import Pair, common_start
from speechscale.model.likelihood import (
    ScoringRow,
    context_windows,
    sequence_problem,
    shared_prefix_row,
    sum_by_slot,
)
from speechscale.model.protocol import LanguageModel
from speechscale.records.scores import COLUMNS, LABELS

_BUFFER = 2048  # pairs that are sorted by length together; bounds memory whatever their number
_WORTH = 1 / 8  # of all tokens must be shared: a fork's mask costs a little
_PROMPT, _ENDING, _CLOSING = range(3)  # sections of a member
_BOTH, _CORRECT, _WRONG = range(3)  # whose a sum is: of what the members share, or of one of them


def score_pairs(
    model: LanguageModel,
    pairs: Iterable[Pair],
    *,
    bos: int | None,
    dtype: torch.dtype,
    end: int | None = None,
    offset: int = 0,
) -> pl.DataFrame:
    """The table of `records/scores.py`, one row a pair. What both members begin with is read once.

    Args:
        bos: the token before the first; without one the first is not scored.
        end: the closing token, `bos` where it is not given. Its likelihood stands in columns of its own.
        offset: the token of unit 0.

    Raises:
        UserError: tokens outside the vocabulary, or a prompt that is not shared; the pair is named.
    """
    closing = end if end is not None else bos
    if closing is None:
        raise UserError("without a token before the first, the closing token must be said.")
    stream, tables = iter(pairs), [pl.DataFrame(schema=COLUMNS)]
    while buffer := list(islice(stream, _BUFFER)):
        tables.append(_scored(model, buffer, bos, closing, offset, dtype))
    return pl.concat(tables)


def _scored(
    model: LanguageModel, pairs: Sequence[Pair], bos: int | None, end: int, offset: int, dtype: torch.dtype
) -> pl.DataFrame:
    rows: list[ScoringRow] = []
    unread = 0 if bos is not None else 1  # leading tokens that are not scored
    for number, pair in enumerate(pairs):
        _check(pair, offset, model.vocabulary)
        if min(len(pair.correct), len(pair.wrong)) > unread:
            members = [_framed(units, bos, end, offset) for units in (pair.correct, pair.wrong)]
            rows += _rows(9 * number, members, (pair.prompt or 0) - unread, model)
    sums = sum_by_slot(model, rows, 9 * len(pairs), dtype).reshape(-1, 3, 3)
    lengths = np.array([[len(pair.correct), len(pair.wrong)] for pair in pairs]) - unread
    scored = (lengths > 0).all(axis=1) & np.isfinite(sums).all(axis=(1, 2))
    correct, wrong = (sums[:, _BOTH] + sums[:, own] for own in (_CORRECT, _WRONG))
    prompts = [None if pair.prompt is None else max(0, pair.prompt - unread) for pair in pairs]
    table = pl.DataFrame(
        {name: [getattr(pair, name) for pair in pairs] for name in (*LABELS, "name_correct", "name_wrong")}
        | {
            "nll_correct": correct[:, [_PROMPT, _ENDING]].sum(axis=1),
            "units_correct": lengths[:, 0],
            "nll_end_correct": correct[:, _CLOSING],
            "nll_wrong": wrong[:, [_PROMPT, _ENDING]].sum(axis=1),
            "units_wrong": lengths[:, 1],
            "nll_end_wrong": wrong[:, _CLOSING],
            "nll_prompt": correct[:, _PROMPT],
            "units_prompt": prompts,
            "scored": scored,
        },
        schema=COLUMNS | {"scored": pl.Boolean},
    )
    of_scores = [name for name in COLUMNS if name.startswith("nll")]
    known = pl.when("scored").then(pl.col(of_scores))
    return table.with_columns(known).with_columns(
        pl.when(pl.col("units_prompt").is_not_null()).then("nll_prompt").alias("nll_prompt")
    )[list(COLUMNS)]


def _framed(units: np.ndarray, bos: int | None, end: int, offset: int) -> np.ndarray:
    before = [] if bos is None else [bos]
    return np.concatenate([before, units.astype(np.int64) + offset, [end]]).astype(np.int64)


def _rows(first: int, members: Sequence[np.ndarray], prompt: int, model: LanguageModel) -> list[ScoringRow]:
    """Both members as one row that forks, where they share enough, or as rows of their own; twins that are the same
    are read once, so that rounding cannot decide between them.

    Args:
        first: the pair's first slot, of nine: owner x section.
        prompt: how many of the first predictions are of the prompt.
    """
    sections = [_sections(len(member) - 1, prompt) for member in members]
    if np.array_equal(members[0], members[1]):
        return list(context_windows(members[0], first + 3 * _BOTH + sections[0], model.context))
    shared = common_start(*members)
    longest = max(map(len, members)) - 1
    if (
        model.supports_shared_prefix
        and longest <= model.context
        and shared - 1 >= _WORTH * sum(map(len, members))
    ):
        trunk = sections[0][: shared - 1]
        ends = [
            (member[shared:], first + 3 * own + section[shared - 1 :])
            for own, member, section in zip((_CORRECT, _WRONG), members, sections, strict=True)
        ]
        return [shared_prefix_row(members[0][:shared], first + 3 * _BOTH + trunk, ends)]
    return [
        row
        for own, member, section in zip((_CORRECT, _WRONG), members, sections, strict=True)
        for row in context_windows(member, first + 3 * own + section, model.context)
    ]


def _sections(predictions: int, prompt: int) -> np.ndarray:
    sections = np.full(predictions, _ENDING)
    sections[: max(0, prompt)] = _PROMPT
    sections[-1] = _CLOSING
    return sections


def _check(pair: Pair, offset: int, vocabulary: int) -> None:
    name = f"{pair.task}/{pair.pair_id}"
    for which, units in (("correct", pair.correct), ("wrong", pair.wrong)):
        problem = sequence_problem(units.astype(np.int64) + offset, vocabulary) if len(units) else None
        if problem:
            raise UserError(f"{name}: the {which} member {problem}")
    if pair.prompt and (
        pair.prompt > min(len(pair.correct), len(pair.wrong))
        or (pair.correct[: pair.prompt] != pair.wrong[: pair.prompt]).any()
    ):
        raise UserError(
            f"{name}: its label says that both members begin with the same {pair.prompt} units, and they do not; make "
            "the shards again."
        )
