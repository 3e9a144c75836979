import numpy as np
import pytest

from speechscale.laws.forms import log_loss
from speechscale.laws.isoflop import draw_exponents, fit_isoflop
from speechscale.laws.ladder import Ladder

BUDGETS = np.geomspace(1e18, 1e21, 4)


def _slices(truth, reach: float, budgets: np.ndarray = BUDGETS) -> Ladder:
    """Nine sizes a budget, up to `reach` in ln N around the best split."""
    from speechscale.laws.allocation import log_optimum

    params = np.concatenate(
        [np.exp(log_optimum(truth, c)[0] + np.linspace(-reach, reach, 9)) for c in budgets]
    )
    tokens = np.repeat(budgets, 9) / 6 / params
    return Ladder.of(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens))))


def test_bracketed_minima_recover_the_exponents_of_the_law(truth):
    found = fit_isoflop(_slices(truth, 0.8))
    assert all(m.refused is None for m in found.minima) and len(found.minima) == 4
    assert found.split["a"] == pytest.approx(0.24 / 0.49, abs=0.01)
    assert found.split["a"] + found.split["b"] == 1


def test_minimum_at_the_edge_is_refused(truth):
    whole = _slices(truth, 1.0)
    half = whole.take(np.tile(np.arange(9) >= 5, 4))  # every size above the best one
    found = fit_isoflop(half)
    assert all("not bracketed: the best loss is at the smallest size" in m.refused for m in found.minima)
    assert found.split is None and "0 of 4 budgets" in found.missing


def test_budgets_that_runs_do_not_share_are_interpolated(truth):
    sizes = np.geomspace(1e7, 3e9, 9)
    params = np.repeat(sizes, 8)
    tokens = np.tile(np.geomspace(1e8, 1e13, 8), 9)
    ladder = Ladder.of(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens))))
    found = fit_isoflop(ladder)
    assert found.split["a"] == pytest.approx(0.24 / 0.49, abs=0.15)


def test_intervals_of_the_exponent_cover_the_truth(truth):
    """Ladders with noise of 0.2 %: the interval of each holds the exponent of the noiseless minima."""
    clean = _slices(truth, 1.2)
    exponent = fit_isoflop(clean).split["a"]
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        noisy = Ladder.of(
            clean.params, clean.tokens, clean.loss * np.exp(0.002 * rng.standard_normal(len(clean)))
        )
        low, high = np.nanquantile(draw_exponents(noisy, 0.002, 100, seed), [0.025, 0.975])
        held += low <= exponent <= high
    assert held >= 34


def test_draw_without_two_minima_is_nan(truth):
    half = _slices(truth, 1.0).take(np.tile(np.arange(9) >= 5, 4))
    assert np.isnan(draw_exponents(half, 1e-6, 5, seed=0)).all()
