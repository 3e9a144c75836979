"""Removal of repeated units (run-length encoding), and the EOS unit that ends every utterance."""

from __future__ import annotations

import numpy as np


def collapse(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The units [runs] that differ from their predecessor, and the length of each run in frames (int32 [runs])."""
    starts = (
        np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]])) if len(units) else np.empty(0, int)
    )
    return units[starts], np.diff(starts, append=len(units)).astype(np.int32)


def append_eos(units: np.ndarray, durations: np.ndarray, eos: int) -> tuple[np.ndarray, np.ndarray]:
    """Units (int16) and durations (int32) with EOS appended, whose duration is 0 frames."""
    return np.append(units, eos).astype(np.int16), np.append(durations, 0).astype(np.int32)
