"""The test loss: the whole test set, token-weighted, with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from speechscale.model.likelihood import negative_log_likelihoods
from speechscale.model.transformer import Transformer
from speechscale.records.shards import Shard


@dataclass(frozen=True)
class TestLoss:
    """`loss` in nats per unit, EOS included; `error` its standard error over utterances."""

    loss: float
    error: float
    bits_per_second: float | None  # None when the shards do not say how long their audio is
    tokens: int


def read_test_loss(model: Transformer, shards: Sequence[Shard], dtype: torch.dtype) -> TestLoss:
    """Every utterance by itself, after a BOS, to its EOS included; sums are weighted by units, not by utterance."""
    samples = [sample for shard in shards for sample in shard.samples()]
    seconds = (
        None
        if any(shard.seconds is None for shard in shards)
        else sum(shard.seconds or 0 for shard in shards)
    )
    eos = shards[0].preprocessing["eos_token"]
    nll = negative_log_likelihoods(model, samples, bos=eos, dtype=dtype)
    lengths = np.array([len(sample) for sample in samples])
    loss = nll.sum() / lengths.sum()
    # Variance of a ratio of means over utterances (delta method).
    error = math.sqrt(((nll - loss * lengths) ** 2).sum()) / lengths.sum()
    bits = float(nll.sum() / math.log(2) / seconds) if seconds else None
    return TestLoss(float(loss), float(error), bits, int(lengths.sum()))
