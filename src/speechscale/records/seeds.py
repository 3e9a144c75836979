"""Independent random streams from one seed, by name."""

from __future__ import annotations

import hashlib

import numpy as np


def spawn(seed: int, *names: str) -> np.random.SeedSequence:
    """The stream of a series, stage or run: the child of `SeedSequence(seed)` with these names.

    A child as of `SeedSequence.spawn`, keyed by hashes of the names instead of a counter: a stream then does not depend
    on which other streams exist, so a series or run keeps its results when another is added.

    Args:
        seed: of the study or fit.
        names: for example the series and the stage; their order matters.
    """
    keys = (int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") for name in names)
    return np.random.SeedSequence(seed, spawn_key=tuple(keys))


def spawn_seed(seed: int, *names: str) -> int:
    """A whole-number seed (0 to 2^32 - 1) from the stream of these names, for libraries that take no SeedSequence."""
    return int(spawn(seed, *names).generate_state(1)[0])
