"""Runs of one unit become one; EOS closes the utterance."""

from __future__ import annotations

import numpy as np


def collapse(units: np.ndarray) -> np.ndarray:
    """Drop every unit that equals the one before it."""
    if not len(units):
        return units
    return units[np.concatenate([[True], units[1:] != units[:-1]])]


def close(units: np.ndarray, eos: int) -> np.ndarray:
    """Append EOS, int16."""
    return np.append(units, eos).astype(np.int16)
