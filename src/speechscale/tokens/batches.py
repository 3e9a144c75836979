"""(corpus, seed, step) to batch: a pure function, so that resuming needs a number and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from speechscale.errors import UserError
from speechscale.records.shards import Shard


class Windows:
    """Windows of `context` + 1 units over the samples of shards, end to end; inputs and targets overlap by one.

    Window i predicts units i*context + 1 … (i+1)*context: every unit of the corpus but the first (and a tail shorter
    than a window) is predicted exactly once an epoch. The units stay on disk, mapped, and a window is read when it is
    asked for, so that opening costs nothing that grows with the corpus.
    """

    def __init__(self, shards: Sequence[Shard], context: int, limit: int | None = None) -> None:
        """`limit`: use only so many units from the start of the corpus (for data-constrained runs)."""
        self._parts = [np.asarray(shard.units) for shard in shards]  # mapped, not read
        lengths = np.array([len(part) for part in self._parts])
        self._ends = np.cumsum(lengths)  # of each part, in units of the corpus
        self._starts = self._ends - lengths
        length = int(self._ends[-1])
        self.length = length if limit is None else min(length, limit + 1)
        self.context = context
        self._order = lru_cache(maxsize=2)(_order)  # a batch touches at most two neighbouring epochs
        self.count = (self.length - 1) // context
        if self.count < 1:
            raise UserError(
                f"the corpus has {self.length} units, a window needs {context + 1}; "
                "encode more speech or shorten the context."
            )

    @property
    def tokens(self) -> int:
        """Unique tokens: predicted units of one epoch."""
        return self.count * self.context

    def window(self, index: int) -> np.ndarray:
        """int16 [context + 1]."""
        return self._gather(np.array([index]))[0]

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: windows number step*size … of the endless sequence of shuffled epochs."""
        epochs, places = np.divmod(np.arange(step * size, (step + 1) * size), self.count)
        indices = [
            self._order(seed, int(epoch), self.count)[places[epochs == epoch]] for epoch in np.unique(epochs)
        ]
        return self._gather(np.concatenate(indices)).astype(np.int64)

    def _gather(self, indices: np.ndarray) -> np.ndarray:
        """int16 [indices, context + 1]; most windows lie in one part, some reach over the next ones."""
        starts = indices * self.context
        parts = np.searchsorted(self._ends, starts, side="right")
        pieces = []
        for part, start in zip(parts.tolist(), (starts - self._starts[parts]).tolist(), strict=True):
            wanted = self.context + 1
            while wanted:
                piece = self._parts[part][start : start + wanted]
                pieces.append(piece)
                wanted, part, start = wanted - len(piece), part + 1, 0
        return np.concatenate(pieces).reshape(len(indices), -1)


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
