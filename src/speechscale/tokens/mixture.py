"""Mixtures of training corpora: every window of a run comes from one corpus, in fixed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from speechscale.errors import UserError
from speechscale.records.seeds import spawn_seed
from speechscale.records.shards import Shard, require_same_encoding
from speechscale.tokens.batches import Windows


@dataclass(frozen=True)
class TrainingCorpus:
    """Shards to train on, with their weight in a mixture.

    Attributes:
        shards: the corpus, in order.
        weight: share of all windows, relative to the weights of the other corpora.
        limit: number of tokens to use, from the start; all when None.
    """

    shards: Sequence[Shard]
    weight: float = 1.0
    limit: int | None = None

    @property
    def num_tokens(self) -> int:
        """Number of tokens used, from the metadata of the shards alone."""
        available = sum(shard.meta.num_audio_steps for shard in self.shards)
        return available if self.limit is None else min(available, self.limit)


class Mixture:
    """Endless numbered windows, distributed over the corpora; each corpus is read in true epochs of its own.

    Of the first n windows, the first corpus gives floor(n * its share), the second floor(rest * its share of the
    rest), and so on. This is a pure function of n, by which no corpus is further from its share than one window for
    each corpus before it. The windows of a corpus come in the order of `Windows`, so a mixture of one corpus equals
    that corpus.
    """

    def __init__(self, corpora: Sequence[TrainingCorpus], context: int) -> None:
        """Index the corpora.

        Args:
            corpora: one or more, encoded in the same way, without speech in common.
            context: tokens that a window predicts.

        Raises:
            UserError: no corpus, corpora that were encoded differently, one shorter than a window, or two that
                share speech.
        """
        if not corpora:
            raise UserError("a mixture of no corpora; give at least one folder of shards.")
        for corpus in corpora[1:]:
            require_same_encoding(corpus.shards[0], corpora[0].shards[0])
        _require_disjoint(corpora)
        self.windows = [Windows(corpus.shards, context, corpus.limit) for corpus in corpora]
        self._context = context
        weights = [Fraction(corpus.weight) for corpus in corpora]
        remaining = [sum(weights[k:]) for k in range(len(weights))]
        # Of each corpus among itself and those after it; the last is 1.
        self._shares = [weight / rest for weight, rest in zip(weights, remaining, strict=True)]

    @property
    def unique_tokens(self) -> int:
        """Number of tokens predicted in one epoch of every corpus."""
        return sum(windows.unique_tokens for windows in self.windows)

    def unique_tokens_in(self, num_windows: int) -> int:
        """Number of different tokens predicted by the first `num_windows` windows."""
        per_corpus = zip(self.windows, self.windows_per_corpus(num_windows), strict=True)
        return sum(min(count * self._context, windows.unique_tokens) for windows, count in per_corpus)

    def windows_per_corpus(self, num_windows: int) -> list[int]:
        """How many of the first `num_windows` windows come from each corpus."""
        counts = []
        for share in self._shares:
            count = num_windows * share.numerator // share.denominator
            counts.append(count)
            num_windows -= count
        return counts

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Windows step*size … (step+1)*size - 1 of the mixture; int64 [size, context + 1]."""
        if len(self.windows) == 1:
            return self.windows[0].batch(seed, step, size)
        rows = [self._window(seed, number) for number in range(step * size, (step + 1) * size)]
        return np.concatenate(rows)

    def _window(self, seed: int, number: int) -> np.ndarray:
        before, after = self.windows_per_corpus(number), self.windows_per_corpus(number + 1)
        corpus = next(k for k in range(len(before)) if after[k] > before[k])
        return self.windows[corpus].batch(spawn_seed(seed, "corpus", str(corpus)), before[corpus], 1)


def _require_disjoint(corpora: Sequence[TrainingCorpus]) -> None:
    seen: dict[str, Shard] = {}
    for corpus in corpora:
        current = {shard.meta.checksums["audio.bin"]: shard for shard in corpus.shards if len(shard.lengths)}
        for checksum in seen.keys() & current.keys():
            raise UserError(
                f"{current[checksum].folder}: the same speech is in {seen[checksum].folder}, so its tokens would count "
                "as unique twice; leave one of the two corpora out."
            )
        seen |= current
