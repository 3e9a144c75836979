"""Ladders with known laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from speechscale.laws.forms import log_loss, to_theta

SPEECH = {"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24}
Runs = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def truth() -> np.ndarray:
    return to_theta(SPEECH)


@pytest.fixture
def make_runs(truth: np.ndarray) -> Callable[..., Runs]:
    """N, D and losses of a ladder of the given number of runs, with noise in ln L."""

    def make(count: int = 60, noise: float = 0.0, seed: int = 0) -> Runs:
        rng = np.random.default_rng(seed)
        params = 10 ** rng.uniform(7.0, 9.5, count)
        tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
        exact = log_loss(truth, np.log(params), np.log(tokens))
        return params, tokens, np.exp(exact + noise * rng.standard_normal(count))

    return make
