"""Test loss, token-weighted, with its standard error; and the check that test speech is held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from speechscale.errors import UserError
from speechscale.model.likelihood import negative_log_likelihoods, sequence_problem
from speechscale.model.protocol import LanguageModel
from speechscale.model.transformer import Transformer
from speechscale.records.shards import Shard
from speechscale.train.distributed import SINGLE_PROCESS, DistributedContext

MAX_COMPARED_IDS = 300_000  # comparing so many takes about a second
_BUFFER = 4096  # utterances that are scored together
_REMEDY = "give other shards with --test, or encode the splits apart."


@dataclass(frozen=True)
class LossEstimate:
    """Mean loss over the tokens of a corpus.

    Attributes:
        loss: nats per token, EOS included.
        standard_error: of the loss, over utterances.
        bits_per_second: of audio; None where the shards do not say how long their audio is.
        tokens: how many were predicted.
    """

    loss: float
    standard_error: float
    bits_per_second: float | None
    tokens: int


def evaluate_loss(
    model: Transformer,
    shards: Sequence[Shard],
    dtype: torch.dtype,
    context: DistributedContext = SINGLE_PROCESS,
) -> LossEstimate:
    """The loss of each utterance by itself, from after a BOS to its EOS; means are over tokens, not utterances.

    Args:
        model: may be sharded (FSDP); then every process scores all utterances, else each its share.
        shards: the test set.
        dtype: of the matrix products.
        context: this process among those of the run; all must call this.
    """
    samples = [sample for shard in shards for sample in shard.samples()]
    seconds = (
        None
        if any(shard.seconds is None for shard in shards)
        else sum(shard.seconds or 0 for shard in shards)
    )
    eos = shards[0].eos
    if context.size == 1 or isinstance(model, FSDPModule):
        nll = negative_log_likelihoods(model, samples, bos=eos, dtype=dtype)
    else:
        nll = _distributed_likelihoods(model, samples, eos, dtype, context)
    return _estimate(nll, np.array([len(sample) for sample in samples]), seconds)


def evaluate_loss_by_corpus(
    model: LanguageModel,
    shards: Sequence[Shard],
    dtype: torch.dtype,
    *,
    bos: int,
    to_token_ids: Callable[[np.ndarray], np.ndarray],
) -> dict[str, LossEstimate]:
    """The loss of every corpus (`dataset` of the rows), and under "" that of all utterances.

    Args:
        model: scores tokens.
        shards: the test set.
        dtype: of the matrix products.
        bos: token before each utterance.
        to_token_ids: units int16 [T] of a sample, its EOS included, to tokens of the model.

    Raises:
        UserError: units outside the vocabulary; the utterance is named.
    """
    by_corpus: dict[str, list[tuple[float, int, float]]] = {}  # of each utterance: nats, tokens, seconds
    samples = (
        (row, to_token_ids(shard.units[end - length : end]))
        for shard in shards
        for row, length, end in zip(
            shard.iterate_rows(), shard.lengths, np.cumsum(shard.lengths), strict=True
        )
    )
    while buffer := list(islice(samples, _BUFFER)):
        for row, tokens in buffer:
            if problem := sequence_problem(tokens, model.vocabulary):
                raise UserError(f"{row['id']} {problem}")
        nll = negative_log_likelihoods(model, [tokens for _, tokens in buffer], bos=bos, dtype=dtype)
        for (row, tokens), nats in zip(buffer, nll.tolist(), strict=True):
            utterance = (nats, len(tokens), row.get("seconds") or math.nan)
            by_corpus.setdefault(row.get("dataset") or "unnamed", []).append(utterance)
    columns = {name: np.array(rows) for name, rows in sorted(by_corpus.items())}
    columns[""] = np.concatenate(list(columns.values()))
    return {
        name: _estimate(nll, lengths, None if np.isnan(seconds).any() else float(seconds.sum()))
        for name, (nll, lengths, seconds) in ((name, rows.T) for name, rows in columns.items())
    }


def _estimate(nll: np.ndarray, lengths: np.ndarray, seconds: float | None) -> LossEstimate:
    """From negative log-likelihoods float64 [utterances], tokens [utterances], and seconds of all audio."""
    loss = nll.sum() / lengths.sum()
    # Variance of a ratio of means over utterances (delta method).
    standard_error = math.sqrt(((nll - loss * lengths) ** 2).sum()) / lengths.sum()
    bits = float(nll.sum() / math.log(2) / seconds) if seconds else None
    return LossEstimate(float(loss), float(standard_error), bits, int(lengths.sum()))


def _distributed_likelihoods(
    model: Transformer,
    samples: Sequence[np.ndarray],
    eos: int,
    dtype: torch.dtype,
    context: DistributedContext,
) -> np.ndarray:
    """Negative log-likelihoods of all samples, float64 [samples]; each process scores every `size`-th of them."""
    nll = np.zeros(len(samples))
    local = samples[context.rank :: context.size]
    if local:
        nll[context.rank :: context.size] = negative_log_likelihoods(model, local, bos=eos, dtype=dtype)
    device = model.embedding.weight.device
    return context.all_reduce_sum(torch.from_numpy(nll).to(device)).cpu().numpy()


def require_held_out(train: Sequence[Shard], test: Sequence[Shard]) -> None:
    """Require that no test speech is trained on, before any work.

    Ids are compared where there are at most `MAX_COMPARED_IDS` training utterances; of larger corpora only the contents
    of whole shards, because reading all ids would take too long.

    Raises:
        UserError: test speech is trained on.
    """
    trained = {shard.meta.checksums["audio.bin"]: shard for shard in train if len(shard.lengths)}
    for shard in test:
        same = trained.get(shard.meta.checksums["audio.bin"])
        if same is not None:
            raise UserError(
                f"{shard.folder}: the same speech is in {same.folder}, so it is not held out; {_REMEDY}"
            )
    if sum(len(shard.lengths) for shard in train) > MAX_COMPARED_IDS:
        return
    held_out = {row["id"] for shard in test for row in shard.rows()}
    for shard in train:
        both = held_out & {row["id"] for row in shard.rows()}
        if both:
            raise UserError(
                f"{shard.folder}: {len(both)} of its utterances are test speech too, the first {min(both)!r}; {_REMEDY}"
            )
