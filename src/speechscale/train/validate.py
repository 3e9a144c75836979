"""The test loss: the whole test set, token-weighted, with its standard error; and that it was held out."""

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
from speechscale.train.processes import ALONE, World

MOST_IDS = 300_000  # about a second
_BUFFER = 4096  # utterances whose loss is read together
_REMEDY = "give other shards with --test, or encode the splits apart."


@dataclass(frozen=True)
class TestLoss:
    """`loss` in nats per unit, EOS included; `error` its standard error over utterances."""

    loss: float
    error: float
    bits_per_second: float | None  # None when the shards do not say how long their audio is
    tokens: int


def read_test_loss(
    model: Transformer, shards: Sequence[Shard], dtype: torch.dtype, world: World = ALONE
) -> TestLoss:
    """Every utterance by itself, after a BOS, to its EOS included; sums are weighted by units, not by utterance.

    The processes share the utterances, except where they share the matrices and so must call the model together.
    """
    samples = [sample for shard in shards for sample in shard.samples()]
    seconds = (
        None
        if any(shard.seconds is None for shard in shards)
        else sum(shard.seconds or 0 for shard in shards)
    )
    eos = shards[0].preprocessing["eos_token"]
    if world.size == 1 or isinstance(model, FSDPModule):
        nll = negative_log_likelihoods(model, samples, bos=eos, dtype=dtype)
    else:
        nll = _shared(model, samples, eos, dtype, world)
    return _loss(nll, np.array([len(sample) for sample in samples]), seconds)


def read_corpus_losses(
    model: LanguageModel,
    shards: Sequence[Shard],
    dtype: torch.dtype,
    *,
    bos: int,
    spelled: Callable[[np.ndarray], np.ndarray],
) -> dict[str, TestLoss]:
    """The test loss of every corpus (`dataset` of the rows), and under "" that of all.

    Args:
        spelled: units of a sample, its EOS included, as tokens of the model.

    Raises:
        UserError: units outside the vocabulary; the utterance is named.
    """
    found: dict[str, list[tuple[float, int, float]]] = {}  # of each utterance: nats, tokens, seconds
    samples = (
        (row, spelled(shard.units[end - length : end]))
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
            of_row = (nats, len(tokens), row.get("seconds") or math.nan)
            found.setdefault(row.get("dataset") or "unnamed", []).append(of_row)
    parts = {name: np.array(rows) for name, rows in sorted(found.items())}
    parts[""] = np.concatenate(list(parts.values()))
    return {
        name: _loss(nll, lengths, None if np.isnan(seconds).any() else float(seconds.sum()))
        for name, (nll, lengths, seconds) in ((name, part.T) for name, part in parts.items())
    }


def _loss(nll: np.ndarray, lengths: np.ndarray, seconds: float | None) -> TestLoss:
    """Of utterances with their summed likelihoods and lengths, float64 [utterances] each, and their seconds in all."""
    loss = nll.sum() / lengths.sum()
    # Variance of a ratio of means over utterances (delta method).
    error = math.sqrt(((nll - loss * lengths) ** 2).sum()) / lengths.sum()
    bits = float(nll.sum() / math.log(2) / seconds) if seconds else None
    return TestLoss(float(loss), float(error), bits, int(lengths.sum()))


def _shared(
    model: Transformer, samples: Sequence[np.ndarray], eos: int, dtype: torch.dtype, world: World
) -> np.ndarray:
    """Negative log-likelihoods of all samples, of which each process reads every `size`-th."""
    nll = np.zeros(len(samples))
    mine = samples[world.rank :: world.size]
    if mine:
        nll[world.rank :: world.size] = negative_log_likelihoods(model, mine, bos=eos, dtype=dtype)
    device = model.embedding.weight.device
    return world.sum(torch.from_numpy(nll).to(device)).cpu().numpy()


def require_held_out(train: Sequence[Shard], test: Sequence[Shard]) -> None:
    """Stop before any work when test speech is also trained on.

    Ids are compared up to `MOST_IDS` training utterances; of larger corpora, where reading all ids would take longer
    than a start should, the contents of whole shards alone.

    Raises:
        UserError: it is.
    """
    trained = {shard.meta.checksums["audio.bin"]: shard for shard in train if len(shard.lengths)}
    for shard in test:
        same = trained.get(shard.meta.checksums["audio.bin"])
        if same is not None:
            raise UserError(
                f"{shard.folder}: the same speech is in {same.folder}, so it is not held out; {_REMEDY}"
            )
    if sum(len(shard.lengths) for shard in train) > MOST_IDS:
        return
    held_out = {row["id"] for shard in test for row in shard.rows()}
    for shard in train:
        both = held_out & {row["id"] for row in shard.rows()}
        if both:
            raise UserError(
                f"{shard.folder}: {len(both)} of its utterances are test speech too, the first {min(both)!r}; {_REMEDY}"
            )
