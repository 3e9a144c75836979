"""Samples with transcripts, and the metadata of shards that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from preprocessing import preprocessing_of

from speechscale.records.shards import Sample

PREPROCESSING = preprocessing_of(10, collapsed=True)


def transcribed(name: str, text: str | None, seconds: float = 1.5, **row: Any) -> Sample:
    """A sample of the units 1 and 2, which last 3 frames and 1, of the dataset `prose`."""
    row = {"speaker": "v", "dataset": "prose", "transcript": text, **row}
    return Sample(name, np.array([1, 2, 10]), seconds, row, np.array([3, 1, 0]))
