"""(corpus, seed, step) to batch: a pure function, so that resuming needs a number and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from speechscale.errors import UserError
from speechscale.records.shards import Shard


class Windows:
    """Windows of `context` + 1 units over the concatenated samples of shards; inputs and targets overlap by one.

    Window i predicts units i*context + 1 … (i+1)*context: every unit of the corpus but the first (and a tail shorter
    than a window) is predicted exactly once an epoch.
    """

    def __init__(self, shards: Sequence[Shard], context: int, limit: int | None = None) -> None:
        """`limit`: use only so many units from the start of the corpus (for data-constrained runs)."""
        stream = np.concatenate([np.asarray(shard.units) for shard in shards])
        self.stream = stream[: None if limit is None else limit + 1]
        self.context = context
        self.count = (len(self.stream) - 1) // context
        if self.count < 1:
            raise UserError(
                f"the corpus has {len(self.stream)} units, a window needs {context + 1}; "
                "encode more speech or shorten the context."
            )

    @property
    def tokens(self) -> int:
        """Unique tokens: predicted units of one epoch."""
        return self.count * self.context

    def window(self, index: int) -> np.ndarray:
        start = index * self.context
        return self.stream[start : start + self.context + 1]

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: windows number step*size … of the endless sequence of shuffled epochs."""
        numbers = range(step * size, (step + 1) * size)
        return np.stack([self.window(self._at(seed, number)) for number in numbers]).astype(np.int64)

    def _at(self, seed: int, number: int) -> int:
        epoch, place = divmod(number, self.count)
        return int(_order(seed, epoch, self.count)[place])


@lru_cache(maxsize=2)  # a batch touches at most two neighbouring epochs
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
