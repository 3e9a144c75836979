"""The list of what a manifest leaves out, as JSON Lines, with counts by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from speechscale.records.seal import atomic_write
from speechscale.records.shards import Skip


class SkipList:
    """Writes skips, counts them by reason and keeps the first of each reason."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.reasons: Counter[str] = Counter()
        self.examples: list[Skip] = []  # the first of each reason

    def add(self, skip: Skip) -> None:
        """Write one line."""
        if not self.reasons[skip.reason]:
            self.examples.append(skip)
        self.reasons[skip.reason] += 1
        self._stream.write(json.dumps(vars(skip)).encode() + b"\n")


@contextmanager
def open_skip_list(path: Path) -> Iterator[SkipList]:
    """Open a list of skips, which replaces the file at `path` when the block ends."""
    with atomic_write(path) as stream:
        yield SkipList(stream)
