import numpy as np
import pytest

from speechscale.laws.ladder import Ladder
from speechscale.laws.starts import profiled_starts, published_starts


def test_published_grid_is_the_published_one():
    starts = published_starts()
    assert starts.shape == (4500, 5)
    assert set(starts[:, 0]) == {0, 5, 10, 15, 20, 25} and set(starts[:, 2]) == {-1, -0.5, 0, 0.5, 1}
    assert set(starts[:, 3]) == {0, 0.5, 1, 1.5, 2}


def test_profiled_starts_hold_the_exact_terms_at_the_true_exponents(make_runs, truth):
    ladder = Ladder.of(*make_runs())
    starts = profiled_starts(ladder, np.array([0.24, 0.25]))
    at_truth = starts[(starts[:, 3] == 0.25) & (starts[:, 4] == 0.24)][0]
    assert at_truth == pytest.approx(truth, rel=1e-6)
