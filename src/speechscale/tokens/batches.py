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
        self._ends = np.cumsum([len(part) for part in self._parts])  # of each part, in units of the corpus
        length = int(self._ends[-1])
        self.length = length if limit is None else min(length, limit + 1)
        self.context = context
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
        """int64 [context + 1]."""
        window = np.empty(self.context + 1, dtype=np.int64)
        self._read(index * self.context, window)
        return window

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: windows number step*size … of the endless sequence of shuffled epochs."""
        batch = np.empty((size, self.context + 1), dtype=np.int64)
        for row, number in enumerate(range(step * size, (step + 1) * size)):
            self._read(self._at(seed, number) * self.context, batch[row])
        return batch

    def _read(self, start: int, into: np.ndarray) -> None:
        """Units from `start` of the corpus, out of as many parts as it takes."""
        number = int(np.searchsorted(self._ends, start, side="right"))  # the part in which `start` lies
        filled = 0
        while filled < len(into):
            part = self._parts[number]
            at = start + filled - (int(self._ends[number]) - len(part))
            piece = part[at : at + len(into) - filled]
            into[filled : filled + len(piece)] = piece
            filled, number = filled + len(piece), number + 1

    def _at(self, seed: int, number: int) -> int:
        epoch, place = divmod(number, self.count)
        return int(_order(seed, epoch, self.count)[place])


@lru_cache(maxsize=2)  # a batch touches at most two neighbouring epochs
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
