import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.laws.allocation import log_optimum, split_params
from speechscale.laws.forms import log_loss, to_theta
from speechscale.laws.published_laws import PUBLISHED_LAWS
from speechscale.laws.simulate import DrawOptions, Noise, paper_design, simulate


def test_coverage_of_intervals_is_near_nominal(truth):
    """60 ladders: the share in 95 % intervals has a standard error of 2.8 points; benchmarks/coverage.py draws 500."""
    params, tokens = paper_design()
    found = simulate(truth, params, tokens, noise=Noise(0.002), ladders=60, draws=DrawOptions(300))
    for name in ("alpha", "beta", "a", "forecast"):
        assert 0.87 <= found[name].coverage <= 1.0, name
        assert abs(found[name].bias) < 0.5 * found[name].spread, name


def test_more_noise_spreads_the_estimates(truth):
    params, tokens = paper_design()
    spread = [
        simulate(truth, params, tokens, noise=Noise(noise), ladders=15, draws=DrawOptions(100))["beta"].spread
        for noise in (0.001, 0.004)
    ]
    assert spread[1] > 2 * spread[0]


def test_paper_design_has_the_published_ratios():
    params, tokens = paper_design()
    assert len(params) == 40
    assert sorted(set(np.round(tokens / params))) == [2, 4, 8, 10, 20, 32, 64, 100]


def test_impossible_simulations_are_refused(truth):
    with pytest.raises(UserError, match="above zero"):
        simulate(truth, *paper_design(), noise=Noise(0.0), ladders=3)
    with pytest.raises(UserError, match="1 draws cannot carry"):
        simulate(truth, *paper_design(), noise=Noise(0.003), ladders=3, draws=DrawOptions(1))


@pytest.mark.parametrize(("series", "a"), [("speech", 0.49), ("text", 0.5), ("speech-unigram", 0.516)])
def test_published_constants_reproduce_the_published_allocation(series, a):
    """The study: a ~ b ~ 0.5. Its rounded constants put D/N at 140 to 160 between 1e18 and 7e20 FLOPs for speech."""
    theta = to_theta(PUBLISHED_LAWS[series].params)
    assert split_params(theta)["a"] == pytest.approx(a, abs=0.001)
    assert split_params(theta)["a"] + split_params(theta)["b"] == 1
    if series == "speech":
        for flops in (1e18, 7e20):
            log_n, log_d = log_optimum(theta, flops)
            assert 135 < np.exp(log_d - log_n) < 165


def test_published_split_has_the_least_loss_of_its_budget():
    theta = to_theta(PUBLISHED_LAWS["speech"].params)
    log_n, log_d = log_optimum(theta, 1e21)
    at_best = log_loss(theta, np.array([log_n]), np.array([log_d]))
    for shift in (-0.05, 0.05):
        assert log_loss(theta, np.array([log_n + shift]), np.array([log_d - shift])) > at_best
    assert np.exp(log_n + log_d) * 6 == pytest.approx(1e21)
