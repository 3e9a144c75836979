"""Batches read ahead in the background, so that training does not wait for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from speechscale.errors import UserError
from speechscale.train.processes import World, share_of_batch

_CHUNK_TOKENS = (
    2**16
)  # read at a time: handing over each batch of a tiny run by itself would cost more than reading it
_AHEAD = 2  # chunks


class Windows(Protocol):
    """Endless numbered windows of a corpus, or of a mixture of several."""

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: windows number step*size …"""


class Feed:
    """Hands out this process's share of the batch of each step in order, and counts the seconds that were waited."""

    def __init__(
        self, windows: Windows, seed: int, batch: int, vocabulary: int, device: torch.device, world: World
    ) -> None:
        self._windows, self._seed, self._vocabulary = windows, seed, vocabulary
        self._device, self._world = device, world
        self._share = share_of_batch(batch, world)
        self.waited = 0.0

    def read(self, step: int) -> Tensor:
        """int64 [share, context + 1], in memory that a GPU can fetch from by itself.

        The batch is a pure function of seed and step. Process r of w takes the r-th w-th of it, which are the windows
        number (step * w + r) * share ….

        Raises:
            UserError: a unit that the model has no embedding for.
        """
        number = step * self._world.size + self._world.rank
        rows = self._windows.batch(self._seed, number, self._share)
        if rows.max() >= self._vocabulary or rows.min() < 0:
            raise UserError(
                f"the batch of step {step} has units from {rows.min()} to {rows.max()}, but the model's vocabulary "
                f"ends at {self._vocabulary - 1}: vocab_size in the shards' meta.json is wrong; encode them again."
            )
        batch = torch.from_numpy(rows)
        return batch.pin_memory() if self._device.type == "cuda" else batch

    @contextmanager
    def ahead(self, start: int, stop: int) -> Iterator[Iterator[Tensor]]:
        """The batches of steps `start` to `stop` on the device, read ahead while the block lasts."""
        reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        try:
            yield self._in_order(reader, start, stop)
        finally:
            reader.shutdown(wait=True, cancel_futures=True)

    def _in_order(self, reader: ThreadPoolExecutor, start: int, stop: int) -> Iterator[Tensor]:
        if start >= stop:
            return
        first = self.read(start)
        yield self._placed(first)
        chunk = max(1, _CHUNK_TOKENS // first.numel())
        waiting: deque[Future[list[Tensor]]] = deque()
        following = start + 1
        while waiting or following < stop:
            while following < stop and len(waiting) < _AHEAD:
                steps = range(following, min(stop, following + chunk))
                waiting.append(reader.submit(lambda steps=steps: [self.read(step) for step in steps]))  # type: ignore[misc]
                following = steps.stop
            asked = time.perf_counter()
            batches = waiting.popleft().result()
            self.waited += time.perf_counter() - asked
            yield from map(self._placed, batches)

    def _placed(self, batch: Tensor) -> Tensor:
        return batch.to(self._device, non_blocking=True)
