"""A tiny corpus of units with structure to learn: a noisy counter."""

from __future__ import annotations

import numpy as np

from speechscale.records.shards import Sample

MADE = {
    "vocab_size": 18,
    "eos_token": 16,
    "pad_token": 17,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "k", "sha256": "k"},
}


def counters(rng: np.random.Generator, prefix: str) -> list[Sample]:
    made = []
    for number in range(40):
        steps = rng.choice([1, 1, 1, 2], size=int(rng.integers(10, 30)))
        units = np.append(np.cumsum(steps) % 16, 16).astype(np.int16)
        made.append(Sample(f"{prefix}{number}", units, len(units) / 25, {}))
    return made
