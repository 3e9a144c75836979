"""How likely a model finds a sequence of units: what test losses and benchmark scores are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer

_BATCH_TOKENS = 8192  # of a padded batch; bounds memory whatever the number of sequences


@dataclass(frozen=True)
class Piece:
    """A stretch of a sequence that fits the context, and how many of its first predictions are already counted."""

    sequence: int
    tokens: np.ndarray  # int64; inputs are all but the last, targets all but the first
    counted: int

    @property
    def predictions(self) -> int:
        return len(self.tokens) - 1


def negative_log_likelihoods(
    model: Transformer, sequences: Sequence[np.ndarray], *, bos: int, dtype: torch.dtype
) -> np.ndarray:
    """Summed negative log-likelihood, in nats, of every sequence given BOS; float64 [sequences].

    A sequence longer than the context is read in windows that advance by half a context, each unit counted once, with
    at least half a context before it. Pieces of similar length share a batch, so little is spent on padding, which
    attention cannot see (it stands to the right) and the sum leaves out.

    Raises:
        UserError: a sequence is empty or has units outside the vocabulary.
    """
    _check(model, sequences)
    pieces = [
        piece
        for number, sequence in enumerate(sequences)
        for piece in _pieces(number, np.append(bos, sequence).astype(np.int64), model.shape.context)
    ]
    totals = np.zeros(len(sequences))
    for group in _groups(pieces):
        np.add.at(totals, [piece.sequence for piece in group], _score(model, group, dtype))
    return totals


def _pieces(number: int, tokens: np.ndarray, context: int) -> Iterator[Piece]:
    predictions = len(tokens) - 1
    counted = start = 0
    while counted < predictions:
        stop = min(start + context, predictions)
        yield Piece(number, tokens[start : stop + 1], counted - start)
        counted = stop
        start = max(0, stop - context // 2)


def _groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.predictions):
        if group and (len(group) + 1) * piece.predictions > _BATCH_TOKENS:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


@torch.inference_mode()
def _score(model: Transformer, pieces: Sequence[Piece], dtype: torch.dtype) -> np.ndarray:
    """Summed negative log-likelihood of what each piece is the first to count; float64 [pieces]."""
    width = max(len(piece.tokens) for piece in pieces)
    tokens = torch.zeros((len(pieces), width), dtype=torch.long)
    for row, piece in zip(tokens, pieces, strict=True):
        row[: len(piece.tokens)] = torch.from_numpy(piece.tokens)
    device = model.embedding.weight.device
    tokens = tokens.to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(tokens[:, :-1])
    nll = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none").cpu().double()
    place = torch.arange(width - 1)
    first = torch.tensor([piece.counted for piece in pieces])[:, None]
    last = torch.tensor([piece.predictions for piece in pieces])[:, None]
    return (nll * ((place >= first) & (place < last))).sum(dim=1).numpy()


def _check(model: Transformer, sequences: Sequence[np.ndarray]) -> None:
    for number, sequence in enumerate(sequences):
        if len(sequence) == 0:
            raise UserError(f"sequence {number} has no units, so it has no likelihood.")
        if sequence.min() < 0 or sequence.max() >= model.shape.vocabulary:
            raise UserError(
                f"sequence {number} has units up to {sequence.max()}; the model's vocabulary ends at "
                f"{model.shape.vocabulary - 1}: was it encoded with another code book?"
            )
