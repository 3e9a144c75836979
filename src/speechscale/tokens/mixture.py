"""Several corpora as one: every window of a run comes from one of them, in fixed shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from speechscale.errors import UserError
from speechscale.records.seal import differing_fields
from speechscale.records.shards import Shard, encoding_of
from speechscale.tokens.batches import Windows

_SEEDS = 2**32  # between the seeds of two corpora, which must not be shuffled alike


@dataclass(frozen=True)
class Corpus:
    """Shards, how much of all windows they give (relative to the others), and how many of their units are used."""

    shards: Sequence[Shard]
    weight: float = 1.0
    limit: int | None = None

    @property
    def units(self) -> int:
        """How many of its units are used; from the shards' meta alone."""
        held = sum(shard.meta.num_audio_steps for shard in self.shards)
        return held if self.limit is None else min(held, self.limit)


class Mixture:
    """Endless numbered windows, dealt out over the corpora; each corpus goes through true epochs of its own.

    Of the first n windows, the first corpus gives floor(n * its share), the second floor(rest * its share of the rest),
    and so on: a pure function of n, by which no corpus is further from its share than one window for each before it.
    Within a corpus windows come in the order of `Windows`, so a mixture of one corpus is that corpus.
    """

    def __init__(self, corpora: Sequence[Corpus], context: int) -> None:
        """
        Raises:
            UserError: no corpus, corpora that were encoded differently, one shorter than a window, or two that
                share speech.
        """
        if not corpora:
            raise UserError("a mixture of no corpora; give at least one folder of shards.")
        _demand_same_units(corpora)
        _demand_different_speech(corpora)
        self.windows = [Windows(corpus.shards, context, corpus.limit) for corpus in corpora]
        self._context = context
        weights = [Fraction(corpus.weight) for corpus in corpora]
        left = [sum(weights[k:]) for k in range(len(weights))]
        self._shares = [weight / rest for weight, rest in zip(weights, left, strict=True)]  # the last is 1

    @property
    def tokens(self) -> int:
        """Unique tokens of all corpora: predicted units of one epoch of each."""
        return sum(windows.tokens for windows in self.windows)

    def unique(self, count: int) -> int:
        """Unique tokens among the first `count` windows."""
        seen = zip(self.windows, self.counts(count), strict=True)
        return sum(min(given * self._context, windows.tokens) for windows, given in seen)

    def counts(self, count: int) -> list[int]:
        """How many of the first `count` windows each corpus gives."""
        given = []
        for share in self._shares:
            taken = count * share.numerator // share.denominator
            given.append(taken)
            count -= taken
        return given

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: windows number step*size …, of each corpus the next in its order."""
        if len(self.windows) == 1:
            return self.windows[0].batch(seed, step, size)
        rows = [self._window(seed, number) for number in range(step * size, (step + 1) * size)]
        return np.concatenate(rows)

    def _window(self, seed: int, number: int) -> np.ndarray:
        before, after = self.counts(number), self.counts(number + 1)
        corpus = next(k for k in range(len(before)) if after[k] > before[k])
        return self.windows[corpus].batch(seed + corpus * _SEEDS, before[corpus], 1)


def _demand_same_units(corpora: Sequence[Corpus]) -> None:
    first = corpora[0].shards[0]
    for corpus in corpora[1:]:
        differing = differing_fields(encoding_of(corpus.shards[0]), encoding_of(first))
        if differing:
            raise UserError(
                f"{corpus.shards[0].folder} and {first.folder} were encoded differently: {'; '.join(differing)}; one "
                "model reads units of one kind."
            )


def _demand_different_speech(corpora: Sequence[Corpus]) -> None:
    seen: dict[str, Shard] = {}
    for corpus in corpora:
        here = {shard.meta.checksums["audio.bin"]: shard for shard in corpus.shards if len(shard.lengths)}
        for content in seen.keys() & here.keys():
            raise UserError(
                f"{here[content].folder}: the same speech is in {seen[content].folder}, so its tokens would count as "
                "unique twice; leave one of the two corpora out."
            )
        seen |= here
