"""Training batches as a pure function of corpus, seed and step, so that a resumed run needs no iterator state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from speechscale.errors import UserError
from speechscale.records.shards import Shard


class Windows:
    """Windows of `context` + 1 tokens over the concatenated samples of shards; inputs and targets overlap by one.

    Window i predicts tokens i*context + 1 … (i+1)*context: every token of the corpus but the first (and a tail
    shorter than a window) is predicted exactly once an epoch. The tokens stay on disk, memory-mapped, and a window is
    read on request, so the cost of opening does not grow with the corpus.

    Attributes:
        context: tokens that a window predicts.
        num_tokens: tokens of the corpus that are used.
        num_windows: windows of one epoch.
    """

    def __init__(self, shards: Sequence[Shard], context: int, limit: int | None = None) -> None:
        """Index the shards.

        Args:
            shards: the corpus, in order.
            context: tokens that a window predicts.
            limit: number of tokens to use, from the start of the corpus (for data-constrained runs); all when None.

        Raises:
            UserError: the corpus is shorter than a window.
        """
        self._parts = [np.asarray(shard.units) for shard in shards]  # memory-mapped, not read
        lengths = np.array([len(part) for part in self._parts])
        self._ends = np.cumsum(lengths)  # of each part, as positions in the corpus
        self._starts = self._ends - lengths
        length = int(self._ends[-1])
        self.num_tokens = length if limit is None else min(length, limit + 1)
        self.context = context
        self._permutation = lru_cache(maxsize=2)(_permutation)  # a batch touches at most two adjacent epochs
        self.num_windows = (self.num_tokens - 1) // context
        if self.num_windows < 1:
            raise UserError(
                f"the corpus has {self.num_tokens} units, a window needs {context + 1}; "
                "encode more speech or shorten the context."
            )

    @property
    def unique_tokens(self) -> int:
        """Number of tokens predicted in one epoch."""
        return self.num_windows * self.context

    def window(self, index: int) -> np.ndarray:
        """Window number `index` in corpus order; int16 [context + 1]."""
        row: np.ndarray = self._read(np.array([index]))[0]
        return row

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Some windows of the endless sequence of shuffled epochs.

        Args:
            seed: of the shuffling.
            step: number of the batch.
            size: windows of a batch.

        Returns:
            Windows step*size … (step+1)*size - 1 of the sequence; int64 [size, context + 1].
        """
        numbers = np.arange(step * size, (step + 1) * size)
        epochs, positions = np.divmod(numbers, self.num_windows)
        indices = [
            self._permutation(seed, int(epoch), self.num_windows)[positions[epochs == epoch]]
            for epoch in np.unique(epochs)
        ]
        return self._read(np.concatenate(indices)).astype(np.int64)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        """int16 [indices, context + 1]; most windows come from one part, some span several."""
        starts = indices * self.context
        parts = np.searchsorted(self._ends, starts, side="right")
        pieces: list[np.ndarray] = []
        for part, start in zip(parts.tolist(), (starts - self._starts[parts]).tolist(), strict=True):
            missing = self.context + 1
            while missing:
                piece = self._parts[part][start : start + missing]
                pieces.append(piece)
                missing, part, start = missing - len(piece), part + 1, 0
        return np.concatenate(pieces).reshape(len(indices), -1)


def _permutation(seed: int, epoch: int, num_windows: int) -> np.ndarray:
    order: np.ndarray = np.random.default_rng([seed, epoch]).permutation(num_windows)
    return order
