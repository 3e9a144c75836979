"""A tiny corpus of units with structure to learn: a noisy counter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from preprocessing import preprocessing_of

from speechscale.records.shards import Sample

VOCABULARY = 18
EOS = 16
PREPROCESSING = preprocessing_of(EOS)


def counter_samples(rng: np.random.Generator, prefix: str) -> list[Sample]:
    """40 utterances of 10 to 29 units that count up modulo 16, by 1 or, less often, by 2."""
    samples = []
    for number in range(40):
        units = counter_units(rng, int(rng.integers(10, 30)))
        samples.append(Sample(f"{prefix}{number}", units, len(units) / 25, {}))
    return samples


def counter_units(rng: np.random.Generator, length: int) -> npt.NDArray[np.int16]:
    """Units that count up modulo 16, and EOS; shape (length + 1,)."""
    return np.append(np.cumsum(rng.choice([1, 1, 1, 2], size=length)) % 16, EOS).astype(np.int16)
