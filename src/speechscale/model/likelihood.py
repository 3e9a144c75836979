"""Likelihoods of token sequences under a language model, the basis of test losses and benchmark scores.

A sequence longer than the context is scored in windows. Each window holds a whole context, each token is scored once,
in the first window that contains it, and every window but the first starts half a context before the first token that
it scores.

Rows of similar length share a batch, so that little is spent on padding. Padding is on the right, where causal
attention does not see it. Two sequences with a common prefix can share a row: the prefix is processed once, and an
attention mask hides the two suffixes from each other. Logits are computed only at the positions that something is
predicted from.
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

# Tokens of a padded batch. On a CPU the activations of a layer should fit into its cache (benchmarks/eval.py: 8192
# take 1.5 times as long); a GPU needs large batches.
_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}
_BATCH_LOGITS = 2**26  # limits the batches of models with large vocabularies


@dataclass(frozen=True)
class ScoringRow:
    """One row of a batch: its input tokens, and what is predicted from which of them.

    A row holds one sequence, or a prefix, then the first suffix, then the second suffix.

    Attributes:
        tokens: the input, int64 [T].
        positions: the position that each prediction is made from, int64 [S].
        targets: the token to score at each prediction, int64 [S].
        slots: the sum that each prediction is added to, int64 [S].
        prefix_length: tokens of the prefix; 0 where the row is one sequence.
        suffix_length: tokens of the first suffix; 0 where the row is one sequence.
    """

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    slots: np.ndarray
    prefix_length: int = 0
    suffix_length: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


def negative_log_likelihoods(
    model: LanguageModel, sequences: Sequence[np.ndarray], *, bos: int, dtype: torch.dtype
) -> np.ndarray:
    """Negative log-likelihood of every sequence given BOS, summed over its tokens.

    Args:
        model: the model, in evaluation mode.
        sequences: integers [tokens], without BOS.
        bos: the token before the first one.
        dtype: precision of the matrix products.

    Returns:
        Nats; float64 [sequences].

    Raises:
        UserError: a sequence is empty or has tokens outside the vocabulary.
    """
    rows: list[ScoringRow] = []
    for number, sequence in enumerate(sequences):
        if problem := sequence_problem(sequence, model.vocabulary):
            raise UserError(f"sequence {number} {problem}")
        tokens = np.append(bos, sequence).astype(np.int64)
        rows += context_windows(tokens, np.full(len(sequence), number), model.context)
    return sum_by_slot(model, rows, len(sequences), dtype)


def sequence_problem(sequence: np.ndarray, vocabulary: int) -> str | None:
    """Why a sequence cannot be scored, as the end of a sentence; None if it can."""
    if len(sequence) == 0:
        return "has no units, so it has no likelihood."
    if sequence.min() < 0 or sequence.max() >= vocabulary:
        return (
            f"has units from {sequence.min()} to {sequence.max()}; the model's vocabulary ends at {vocabulary - 1}: "
            "was it encoded with another codebook?"
        )
    return None


def context_windows(tokens: np.ndarray, slots: np.ndarray, context: int) -> Iterator[ScoringRow]:
    """A sequence as one row, or as several overlapping windows where it exceeds the context (see above).

    Args:
        tokens: int64 [n + 1], of which the first is not scored.
        slots: the sum that each of the other tokens is added to, int64 [n].
        context: maximum tokens of a row.
    """
    scored = start = 0
    while scored < len(slots):
        stop = min(start + context, len(slots))
        new = np.arange(scored, stop)
        yield ScoringRow(tokens[start:stop], new - start, tokens[scored + 1 : stop + 1], slots[scored:stop])
        scored = stop
        start = max(0, stop - context // 2)


def shared_prefix_row(
    prefix: np.ndarray, slots: np.ndarray, suffixes: Sequence[tuple[np.ndarray, np.ndarray]]
) -> ScoringRow:
    """Two sequences with a common prefix as one row.

    Args:
        prefix: int64 [n + 1], n >= 0; the first token is not scored.
        slots: the sum that each of the other tokens of the prefix is added to, int64 [n].
        suffixes: of both sequences the tokens after the prefix, one at least, and the sum that each is added to.
    """
    (first, first_slots), (second, second_slots) = suffixes
    length, first_length = len(prefix), len(first) - 1  # the last token of a suffix is a target, not an input
    end_of_prefix = np.array([length - 1])  # both suffixes are predicted from here
    first_positions = length + np.arange(first_length)
    second_positions = length + first_length + np.arange(len(second) - 1)
    return ScoringRow(
        tokens=np.concatenate([prefix, first[:-1], second[:-1]]),
        positions=np.concatenate(
            [np.arange(length - 1), end_of_prefix, first_positions, end_of_prefix, second_positions]
        ),
        targets=np.concatenate([prefix[1:], first, second]),
        slots=np.concatenate([slots, first_slots, second_slots]),
        prefix_length=length,
        suffix_length=first_length,
    )


def sum_by_slot(
    model: LanguageModel, rows: Sequence[ScoringRow], num_slots: int, dtype: torch.dtype
) -> np.ndarray:
    """Negative log-likelihoods of all predictions, added up by slot.

    Args:
        model: the model, in evaluation mode.
        rows: what to predict.
        num_slots: number of sums.
        dtype: precision of the matrix products.

    Returns:
        Nats; float64 [num_slots].

    Raises:
        UserError: a special token outside the vocabulary (units are checked before).
    """
    largest = max((max(row.tokens.max(), row.targets.max()) for row in rows), default=0)
    if largest >= model.vocabulary:
        raise UserError(
            f"token {largest} is to open or close every sequence, and the model's vocabulary ends at "
            f"{model.vocabulary - 1}: is the special token, or the tokenizer, that of another model?"
        )
    sums = np.zeros(num_slots)
    # The results of all batches are copied at the end, so that a GPU does not wait between batches.
    results = [(batch, _score_batch(model, batch, dtype)) for batch in _batches(rows, model)]
    for batch, nll_S in results:
        np.add.at(sums, np.concatenate([row.slots for row in batch]), nll_S.cpu().double().numpy())
    return sums


def _batches(rows: Sequence[ScoringRow], model: LanguageModel) -> Iterator[list[ScoringRow]]:
    max_tokens = min(_BATCH_TOKENS[model.device.type], _BATCH_LOGITS // model.vocabulary)
    batch: list[ScoringRow] = []
    for row in sorted(rows, key=lambda row: (row.suffix_length > 0, len(row))):
        is_full = (len(batch) + 1) * len(row) > max_tokens
        if batch and (is_full or (row.suffix_length > 0) != (batch[0].suffix_length > 0)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _score_batch(model: LanguageModel, rows: Sequence[ScoringRow], dtype: torch.dtype) -> Tensor:
    """The negative log-likelihood of every prediction of some rows in order, float32 [S]."""
    width = max(map(len, rows))
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row.tokens
    positions = np.concatenate([row.positions + number * width for number, row in enumerate(rows)])
    targets = np.concatenate([row.targets for row in rows])
    tokens_BT, positions_S, targets_S = (
        torch.from_numpy(array).to(model.device, non_blocking=True) for array in (tokens, positions, targets)
    )
    attention_mask, position_ids_BT = None, None
    if rows[0].suffix_length:
        attention_mask, position_ids_BT = _shared_prefix_inputs(rows, width, model.device)
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        logits_SV = model(
            tokens_BT,
            attention_mask=attention_mask,
            position_ids_BT=position_ids_BT,
            positions_S=positions_S,
        )
    return F.cross_entropy(logits_SV.float(), targets_S, reduction="none")


def _shared_prefix_inputs(
    rows: Sequence[ScoringRow], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Attention mask, bool [B, 1, T, T], and position ids, int64 [B, T]: the second suffix continues the prefix."""
    prefix_length = torch.tensor([[row.prefix_length] for row in rows], device=device)
    suffix_length = torch.tensor([[row.suffix_length] for row in rows], device=device)
    position = torch.arange(width, device=device)[None]
    in_second = position >= prefix_length + suffix_length
    in_first = (position >= prefix_length) & ~in_second
    hidden = in_second[:, None, :, None] & in_first[:, None, None, :]
    attention_mask = ~hidden & (position[0, :, None] >= position[0, None])
    length = torch.tensor([[len(row)] for row in rows], device=device)
    position_ids_BT = position - suffix_length * in_second
    # Padding needs valid position ids too.
    return attention_mask, position_ids_BT.masked_fill(position >= length, 0)
