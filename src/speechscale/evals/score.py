"""Per-item scores of a model: the likelihood of both members of every pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import polars as pl
import torch

from speechscale.errors import UserError
from speechscale.evals.tasks import Pair, common_prefix_length
from speechscale.model.likelihood import (
    ScoringRow,
    context_windows,
    sequence_problem,
    shared_prefix_row,
    sum_by_slot,
)
from speechscale.model.protocol import LanguageModel
from speechscale.records.scores import COLUMNS, LABELS, SpecialTokens

_PAIRS_PER_BUFFER = 2048  # pairs that are sorted by length together; bounds memory
_MIN_SHARED_FRACTION = 1 / 8  # of all tokens, from which one row for both members pays for its attention mask
_PROMPT, _ENDING, _CLOSING = range(3)  # sections of a member
_BOTH, _CORRECT, _WRONG = range(3)  # whose tokens a sum counts: the shared ones, or those of one member


def score_pairs(
    model: LanguageModel, pairs: Iterable[Pair], tokens: SpecialTokens, *, dtype: torch.dtype
) -> pl.DataFrame:
    """The score table of `records/scores.py`, one row per pair. Tokens that both members begin with are read once.

    Args:
        model: in evaluation mode.
        pairs: token ids of both members, relative to `tokens.unit_0` where it is set.
        tokens: special tokens. Without a token before the first, the first token of a member is not scored. The
            likelihood of the closing token has columns of its own.
        dtype: of the matrix products.

    Raises:
        UserError: tokens outside the vocabulary, or a prompt that is not shared; the pair is named.
    """
    stream, tables = iter(pairs), [pl.DataFrame(schema=COLUMNS)]
    while buffer := list(islice(stream, _PAIRS_PER_BUFFER)):
        tables.append(_score_buffer(model, buffer, tokens, dtype))
    return pl.concat(tables)


def _score_buffer(
    model: LanguageModel, pairs: Sequence[Pair], tokens: SpecialTokens, dtype: torch.dtype
) -> pl.DataFrame:
    rows: list[ScoringRow] = []
    unscored = 0 if tokens.before_first is not None else 1  # leading tokens of a member that are only read
    for number, pair in enumerate(pairs):
        _check(pair, tokens.unit_0 or 0, model.vocabulary)
        if min(len(pair.correct), len(pair.wrong)) > unscored:
            members = [_with_special_tokens(units, tokens) for units in (pair.correct, pair.wrong)]
            rows += _pair_rows(9 * number, members, (pair.prompt or 0) - unscored, model)
    sums = sum_by_slot(model, rows, 9 * len(pairs), dtype).reshape(-1, 3, 3)
    return _score_table(pairs, sums, unscored)


def _score_table(pairs: Sequence[Pair], sums: np.ndarray, unscored: int) -> pl.DataFrame:
    """Rows of the score table.

    Args:
        pairs: as scored.
        sums: float64 [pairs, 3, 3], nats by pair, owner and section.
        unscored: leading tokens of every member that were only read.
    """
    lengths = np.array([[len(pair.correct), len(pair.wrong)] for pair in pairs]) - unscored
    scored = (lengths > 0).all(axis=1) & np.isfinite(sums).all(axis=(1, 2))
    correct, wrong = (sums[:, _BOTH] + sums[:, own] for own in (_CORRECT, _WRONG))
    prompts = [None if pair.prompt is None else max(0, pair.prompt - unscored) for pair in pairs]
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
    nll_columns = [name for name in COLUMNS if name.startswith("nll")]
    known = pl.when("scored").then(pl.col(nll_columns))
    return table.with_columns(known).with_columns(
        pl.when(pl.col("units_prompt").is_not_null()).then("nll_prompt").alias("nll_prompt")
    )[list(COLUMNS)]


def _with_special_tokens(units: np.ndarray, tokens: SpecialTokens) -> np.ndarray:
    before = [] if tokens.before_first is None else [tokens.before_first]
    ids = units.astype(np.int64) + (tokens.unit_0 or 0)
    return np.concatenate([before, ids, [tokens.closing]]).astype(np.int64)


def _pair_rows(
    first_slot: int, members: Sequence[np.ndarray], prompt: int, model: LanguageModel
) -> list[ScoringRow]:
    """Both members as one row with a shared prefix, where they share enough, or as rows of their own.

    Equal members are read once, so that rounding cannot decide between them.

    Args:
        first_slot: the first of the nine sums of the pair, owner x section.
        members: int64 [tokens] each, special tokens included.
        prompt: number of predictions, from the first, that belong to the prompt.
        model: says how much it reads at once, and whether a row can have a shared prefix.
    """
    sections = [_sections(len(member) - 1, prompt) for member in members]
    if np.array_equal(members[0], members[1]):
        return list(context_windows(members[0], first_slot + 3 * _BOTH + sections[0], model.context))
    shared = common_prefix_length(*members)
    longest = max(map(len, members)) - 1
    if (
        model.supports_shared_prefix
        and longest <= model.context
        and shared - 1 >= _MIN_SHARED_FRACTION * sum(map(len, members))
    ):
        prefix = sections[0][: shared - 1]
        suffixes = [
            (member[shared:], first_slot + 3 * own + section[shared - 1 :])
            for own, member, section in zip((_CORRECT, _WRONG), members, sections, strict=True)
        ]
        return [shared_prefix_row(members[0][:shared], first_slot + 3 * _BOTH + prefix, suffixes)]
    return [
        row
        for own, member, section in zip((_CORRECT, _WRONG), members, sections, strict=True)
        for row in context_windows(member, first_slot + 3 * own + section, model.context)
    ]


def _sections(predictions: int, prompt: int) -> np.ndarray:
    """The section of each prediction, int64 [predictions]."""
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
            f"{name}: its label says that both members begin with the same {pair.prompt} units, but they do not; make "
            "the shards again."
        )
