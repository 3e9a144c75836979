"""A tiny corpus of units with structure to learn: a noisy counter."""

from __future__ import annotations

import numpy as np

from speechscale.records.shards import Sample

VOCABULARY = 18
EOS = 16
PREPROCESSING = {
    "vocab_size": VOCABULARY,
    "eos_token": EOS,
    "pad_token": 17,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "k", "sha256": "k"},
}


def counter_samples(rng: np.random.Generator, prefix: str) -> list[Sample]:
    """40 utterances of 10 to 29 units that count up modulo 16, by 1 or, less often, by 2."""
    samples = []
    for number in range(40):
        increments = rng.choice([1, 1, 1, 2], size=int(rng.integers(10, 30)))
        units = np.append(np.cumsum(increments) % 16, EOS).astype(np.int16)
        samples.append(Sample(f"{prefix}{number}", units, len(units) / 25, {}))
    return samples
