"""How likely a model finds a sequence of units: what test losses and benchmark scores are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer

_BATCH_TOKENS = 8192  # of a padded batch; bounds memory whatever the number of sequences


def negative_log_likelihoods(
    model: Transformer, sequences: Sequence[np.ndarray], *, bos: int, dtype: torch.dtype
) -> np.ndarray:
    """Summed negative log-likelihood, in nats, of every sequence given BOS; float64 [sequences].

    Sequences of similar length share a batch, so little is spent on padding, which attention cannot see (it stands
    to the right) and the sum leaves out.

    Raises:
        UserError: a sequence is empty, longer than the context, or has units outside the vocabulary.
    """
    _check(model, sequences)
    totals = np.zeros(len(sequences))
    for group in _groups(sequences):
        totals[group] = _batch(model, [sequences[index] for index in group], bos, dtype)
    return totals


def _groups(sequences: Sequence[np.ndarray]) -> Iterator[list[int]]:
    group: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        if group and (len(group) + 1) * len(sequences[index]) > _BATCH_TOKENS:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@torch.inference_mode()
def _batch(model: Transformer, sequences: list[np.ndarray], bos: int, dtype: torch.dtype) -> np.ndarray:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    tokens = torch.full((len(sequences), int(lengths.max()) + 1), bos)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[1 : len(sequence) + 1] = torch.from_numpy(sequence.astype(np.int64))
    device = model.embedding.weight.device
    tokens = tokens.to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(tokens[:, :-1])
    nll = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none").cpu()
    inside = torch.arange(nll.shape[1]) < lengths[:, None]
    return (nll.double() * inside).sum(dim=1).numpy()


def _check(model: Transformer, sequences: Sequence[np.ndarray]) -> None:
    shape = model.shape
    for number, sequence in enumerate(sequences):
        if not 0 < len(sequence) <= shape.context:
            raise UserError(
                f"sequence {number} has {len(sequence)} units; the model takes 1 to {shape.context} (its context)."
            )
        if sequence.min() < 0 or sequence.max() >= shape.vocabulary:
            raise UserError(
                f"sequence {number} has units up to {sequence.max()}; the model's vocabulary ends at "
                f"{shape.vocabulary - 1}: was it encoded with another code book?"
            )
