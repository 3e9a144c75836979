"""Runs of one unit become one, their lengths kept; EOS closes the utterance."""

from __future__ import annotations

import numpy as np


def collapse(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Units that differ from their neighbours, and for how many frames each lasts (int32)."""
    starts = (
        np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]])) if len(units) else np.empty(0, int)
    )
    return units[starts], np.diff(starts, append=len(units)).astype(np.int32)


def close(units: np.ndarray, durations: np.ndarray, eos: int) -> tuple[np.ndarray, np.ndarray]:
    """Append EOS, which lasts no frame; int16 and int32."""
    return np.append(units, eos).astype(np.int16), np.append(durations, 0).astype(np.int32)
