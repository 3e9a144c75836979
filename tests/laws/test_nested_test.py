"""Tests of the test of a law against one that contains it."""

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from speechscale.laws.family_fit import fit_member
from speechscale.laws.ladder import Ladder
from speechscale.laws.nested_test import nested_p_value
from speechscale.laws.pool import contradicted, fit_pool


def ladder(gamma: float, floor: float, seed: int = 0, count: int = 40, noise: float = 0.002) -> Ladder:
    """Runs of E + (...)^gamma whose two terms are equal at the mean run."""
    rng = np.random.default_rng(seed)
    log_n = rng.uniform(np.log(1e7), np.log(1e9), count)
    log_d = log_n + rng.uniform(0, 5, count)
    terms = np.exp(-0.3 / gamma * (log_n - 18.4)) + np.exp(-0.3 / gamma * (log_d - 20.9))
    loss = (floor + terms**gamma) * np.exp(noise * rng.standard_normal(count))
    return Ladder.of(np.exp(log_n), np.exp(log_d), loss)


def test_is_the_f_test_of_least_squares_where_no_residual_is_clipped():
    runs = ladder(gamma=0.8, floor=1.5)
    small, full = fit_member("additive", runs), fit_member("power", runs)
    squares = [
        float(np.sum((fit.objective.log_loss(fit.phi[None])[0] - runs.log_loss) ** 2))
        for fit in (small, full)
    ]
    wide = [type(fit)(**(vars(fit) | {"noise": 1.0})) for fit in (small, full)]
    by_hand = f_distribution.sf((squares[0] - squares[1]) / (squares[1] / (len(runs) - 6)), 1, len(runs) - 6)
    assert 1e-12 < by_hand < 0.5
    assert nested_p_value(*wide) == pytest.approx(by_hand, rel=1e-9)


def test_p_values_of_a_true_restriction_are_rarely_small():
    """20 ladders with gamma = 1: about one below 0.05. With gamma = 0.3 all are."""
    values = [
        nested_p_value(fit_member("additive", runs), fit_member("power", runs))
        for runs in (ladder(1.0, 1.5, seed) for seed in range(20))
    ]
    assert sum(value < 0.05 for value in values) <= 4
    assert np.quantile(values, 0.75) > 0.3
    for seed in range(5):
        runs = ladder(0.3, 1.5, seed)
        assert nested_p_value(fit_member("additive", runs), fit_member("power", runs)) < 1e-6


@pytest.mark.parametrize(
    ("gamma", "floor", "without"),
    [
        (1.0, 1.5, {"power_without_E"}),  # the additive law is true, and E is far from 0
        (0.4, 1.5, set()),  # the additive law is not true, so no member has to be
        (1.0, 0.0, set()),  # the runs do not contradict E = 0
    ],
)
def test_law_without_e_is_left_out_where_the_additive_law_holds_and_contradicts_it(gamma, floor, without):
    runs = ladder(gamma, floor, seed=1)
    pool = fit_pool(runs, 100, np.random.default_rng(0))
    assert {fit.name for fit, _ in pool.left_out} == without
    assert all("contradicts" in why for _, why in pool.left_out)
    assert len(pool.fits) == len(pool.draws) == 4 - len(without)


def test_nothing_is_left_out_where_a_richer_law_could_not_be_fitted():
    runs = ladder(1.0, 1.5, seed=1)
    fits = {name: fit_member(name, runs) for name in ("additive", "power", "power_without_E")}
    assert contradicted(fits) == set()
