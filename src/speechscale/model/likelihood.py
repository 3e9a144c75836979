"""How likely a model finds a sequence of units: what test losses and benchmark scores are made of.

A sequence longer than the context is read in windows: each reads a whole context, each unit is counted once, in the
first window that reaches it, and every window but the first starts half a context before the first unit that it counts.

Rows of similar length share a batch, so little is spent on padding, which stands to the right, where causal attention
cannot see it. Two sequences with the same beginning can share a row: the beginning (trunk) is read once, and the two
branches after it do not see each other. Logits are computed where something is predicted, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.protocol import LanguageModel

# Tokens of a padded batch. On a CPU what a layer makes of one should stay in its cache (benchmarks/eval.py: 8192 take
# 1.5 times as long), a GPU wants to be filled.
_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}
_BATCH_LOGITS = 2**26  # numbers; what bounds the batches of models with large vocabularies


@dataclass(frozen=True)
class Row:
    """One row of a batch: the tokens it reads, and what is predicted from which of them.

    Its first `trunk` tokens are read by both branches: the next `branch` tokens and the rest.
    """

    tokens: np.ndarray  # int64 [T]
    at: np.ndarray  # int64 [S]: the position from which each prediction is made
    targets: np.ndarray  # int64 [S]: the token whose likelihood is wanted
    slots: np.ndarray  # int64 [S]: the sum that it belongs to
    trunk: int = 0
    branch: int = 0  # 0: the row is one sequence

    def __len__(self) -> int:
        return len(self.tokens)


def negative_log_likelihoods(
    model: LanguageModel, sequences: Sequence[np.ndarray], *, bos: int, dtype: torch.dtype
) -> np.ndarray:
    """Summed negative log-likelihood, in nats, of every sequence given BOS; float64 [sequences].

    Raises:
        UserError: a sequence is empty or has units outside the vocabulary.
    """
    rows: list[Row] = []
    for number, sequence in enumerate(sequences):
        if problem := problem_of(sequence, model.vocabulary):
            raise UserError(f"sequence {number} {problem}")
        tokens = np.append(bos, sequence).astype(np.int64)
        rows += windows(tokens, np.full(len(sequence), number), model.context)
    return summed(model, rows, len(sequences), dtype)


def problem_of(sequence: np.ndarray, vocabulary: int) -> str | None:
    """Why a sequence has no likelihood, as the end of a sentence; None when it has one."""
    if len(sequence) == 0:
        return "has no units, so it has no likelihood."
    if sequence.min() < 0 or sequence.max() >= vocabulary:
        return (
            f"has units from {sequence.min()} to {sequence.max()}; the model's vocabulary ends at {vocabulary - 1}: "
            "was it encoded with another code book?"
        )
    return None


def windows(tokens: np.ndarray, slots: np.ndarray, context: int) -> Iterator[Row]:
    """A sequence as one row, or as several where it exceeds the context (see above).

    Args:
        tokens: int64 [n + 1], of which the first is only read.
        slots: int64 [n], the sum to which each of the others belongs.
    """
    counted = start = 0
    while counted < len(slots):
        stop = min(start + context, len(slots))
        new = np.arange(counted, stop)
        yield Row(tokens[start:stop], new - start, tokens[counted + 1 : stop + 1], slots[counted:stop])
        counted = stop
        start = max(0, stop - context // 2)


def fork(trunk: np.ndarray, slots: np.ndarray, branches: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """Two sequences that begin alike, as one row.

    Args:
        trunk: int64 [n + 1], n >= 0: what both begin with; the first is only read.
        slots: int64 [n], the sum to which each of the others belongs.
        branches: what follows in each, one token at least, and the sum to which each token belongs.
    """
    (left, left_slots), (right, right_slots) = branches
    size, first = len(trunk), len(left) - 1  # the last token of a branch is predicted, and not read
    last = np.array([size - 1])
    return Row(
        np.concatenate([trunk, left[:-1], right[:-1]]),
        np.concatenate(
            [
                np.arange(size - 1),
                last,
                np.arange(size, size + first),
                last,
                np.arange(size + first, size + first + len(right) - 1),
            ]
        ),
        np.concatenate([trunk[1:], left, right]),
        np.concatenate([slots, left_slots, right_slots]),
        size,
        first,
    )


def summed(model: LanguageModel, rows: Sequence[Row], sums: int, dtype: torch.dtype) -> np.ndarray:
    """Negative log-likelihoods added up by slot, in nats; float64 [sums].

    Raises:
        UserError: a token outside the vocabulary. Units have been looked at before, so it opens or closes a sequence.
    """
    last = max((max(row.tokens.max(), row.targets.max()) for row in rows), default=0)
    if last >= model.vocabulary:
        raise UserError(
            f"token {last} is to open or close every sequence, and the model's vocabulary ends at "
            f"{model.vocabulary - 1}: is the special token, or the tokenizer, that of another model?"
        )
    totals = np.zeros(sums)
    scored = [(batch, _predictions(model, batch, dtype)) for batch in _batches(rows, model)]
    for batch, nll in scored:  # read only now, so that a GPU need not wait between batches
        np.add.at(totals, np.concatenate([row.slots for row in batch]), nll.cpu().double().numpy())
    return totals


def _batches(rows: Sequence[Row], model: LanguageModel) -> Iterator[list[Row]]:
    most = min(_BATCH_TOKENS[model.device.type], _BATCH_LOGITS // model.vocabulary)
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.branch > 0, len(row))):
        if batch and ((len(batch) + 1) * len(row) > most or (row.branch > 0) != (batch[0].branch > 0)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _predictions(model: LanguageModel, rows: Sequence[Row], dtype: torch.dtype) -> Tensor:
    """The negative log-likelihood of every prediction of some rows, float32 [S], in their order."""
    width = max(map(len, rows))
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    for line, row in zip(tokens, rows, strict=True):
        line[: len(row)] = row.tokens
    at = np.concatenate([row.at + number * width for number, row in enumerate(rows)])
    targets = np.concatenate([row.targets for row in rows])
    tokens_BT, at_S, targets_S = (
        torch.from_numpy(each).to(model.device, non_blocking=True) for each in (tokens, at, targets)
    )
    attention_mask, position_ids_BT = _forked(rows, width, model.device) if rows[0].branch else (None, None)
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        logits_SV = model(tokens_BT, attention_mask=attention_mask, position_ids_BT=position_ids_BT, at=at_S)
    return F.cross_entropy(logits_SV.float(), targets_S, reduction="none")


def _forked(rows: Sequence[Row], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What each position sees, bool [B, 1, T, T], and its place, int64 [B, T]: the second branch follows the trunk."""
    trunk = torch.tensor([[row.trunk] for row in rows], device=device)
    branch = torch.tensor([[row.branch] for row in rows], device=device)
    position = torch.arange(width, device=device)[None]
    second = position >= trunk + branch
    first = (position >= trunk) & ~second
    hidden = second[:, None, :, None] & first[:, None, None, :]
    attention_mask = ~hidden & (position[0, :, None] >= position[0, None])
    length = torch.tensor([[len(row)] for row in rows], device=device)
    position_ids_BT = position - branch * second
    return attention_mask, position_ids_BT.masked_fill(
        position >= length, 0
    )  # padding too needs a place that exists
