import numpy as np
import pytest

from speechscale.laws import draw_laws, fit_single_epoch
from speechscale.laws.allocation import best_loss, log_optimum
from speechscale.laws.checks import check_law, flat_range
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import log_loss
from speechscale.laws.influence import influence
from speechscale.laws.single_epoch import residual_scale


def _names(runs, **options) -> dict[str, str]:
    fit = fit_single_epoch(*runs, **options)
    names = [f"run {k}" for k in range(len(runs[0]))]
    law = FittedLaw(fit, draw_laws(fit, 200, 0), influence(fit))
    return {c.check: c.message for c in check_law(law, names)}


def test_good_ladder_passes(make_runs):
    assert set(_names(make_runs(60, noise=0.001))) <= {"flat optimum", "best D/N outside"}


def test_few_runs_are_reported(make_runs):
    assert "9 runs carry 5 free parameters" in _names(make_runs(9, noise=0.003))["few runs"]


def test_collinear_runs_are_reported(truth):
    params = np.geomspace(1e7, 1e9, 20)
    tokens = 20 * params * (1 + 0.01 * np.arange(20) % 3)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)))
    assert "correlated at" in _names((params, tokens, loss))["collinear"]


def test_single_size_is_reported(truth):
    params, tokens = np.full(20, 1e8), np.geomspace(1e9, 1e11, 20)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)))
    assert "same N" in _names((params, tokens, loss))["one value"]


def test_narrow_range_is_reported(truth):
    rng = np.random.default_rng(0)
    params, tokens = 1e8 * rng.uniform(1, 3, 30), 10 ** rng.uniform(9, 11, 30)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)) + 0.002 * rng.standard_normal(30))
    assert "less than a decade" in _names((params, tokens, loss))["narrow range"]


def test_law_that_interpolates_its_runs_is_reported_and_keeps_a_noise(truth):
    """Five parameters pass through five of nine runs; the median residual alone would be a noise of 0.00001."""
    params, tokens = np.repeat([1e7, 1e8, 1e9], 3), np.tile([1e9, 1e10, 1e11], 3)
    noise = 0.02 * np.random.default_rng(39).standard_normal(9)
    runs = (params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens)) + noise))
    assert "passes through 5 of 9 runs" in _names(runs)["interpolated"]
    assert "misses the others by 1.07% to 2.50%" in _names(runs)["interpolated"]
    fit = fit_single_epoch(*runs)
    rms = float(np.sqrt(np.mean(fit.residuals**2) * 9 / 4))
    assert residual_scale(fit.residuals, 5) < 1e-4 and fit.noise == pytest.approx(0.5 * rms)


def test_runs_that_scatter_more_than_seeds_are_reported(make_runs):
    params, tokens, loss = make_runs(40, noise=0.003)
    assert "scatter" not in _names((params, tokens, loss))
    mixed = np.where(np.arange(40) % 2, 1.3 * loss, loss)
    assert "look for several recipes, tokenizers or test sets" in _names((params, tokens, mixed))["scatter"]


def test_law_without_a_best_split_names_none(truth):
    """Of runs of one size, or whose loss rises with size, no split and no range of sizes is printed as the best."""
    params, tokens = np.repeat([1e7, 1e8, 1e9], 4), np.tile([1e9, 1e10, 1e11, 1e12], 3)
    rising = 1.0 + 0.1 * np.log(params) - 0.02 * np.log(tokens)
    one_size = np.exp(log_loss(truth, np.full(12, np.log(1e8)), np.log(tokens * params)))
    for runs in ((params, tokens, rising), (np.full(12, 1e8), tokens * params, one_size)):
        assert not {"flat optimum", "best D/N outside"} & set(_names(runs))


def test_exact_runs_have_no_influential_one(truth):
    params, tokens = np.full(10, 1e8), np.geomspace(1e9, 1e11, 10)
    assert "influential run" not in _names(
        (params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens))))
    )


def test_influential_run_is_named(make_runs):
    params, tokens, loss = make_runs(30, noise=0.0005)
    at = int(np.argmax(params * tokens))
    loss[at] *= 1.05
    found = _names((params, tokens, loss), delta=10.0)
    assert f"without run 'run {at}'" in found["influential run"]


def test_influence_agrees_with_leave_one_out_refits(make_runs):
    """Exact for the runs that matter, within a tenth of the largest for the others."""
    runs = make_runs(40, noise=0.003)
    fit = fit_single_epoch(*runs, delta=0.005)
    budget = 10 * fit.ladder.flops.max()
    exact = []
    for left_out in range(40):
        rest = np.arange(40) != left_out
        without = fit_single_epoch(*(column[rest] for column in runs), delta=0.005)
        exact.append(float(np.log(best_loss(without.theta, budget)) - np.log(best_loss(fit.theta, budget))))
    found = influence(fit)
    largest = np.argsort(-np.abs(exact))[:5]
    assert found[largest] == pytest.approx(np.array(exact)[largest], rel=1e-3)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_loss_at_ends_of_flat_range_is_a_thousandth_above_the_best(truth):
    low, high = flat_range(truth, 1e20)
    log_n, _ = log_optimum(truth, 1e20)
    assert low < np.exp(log_n) < high
    for edge in (low, high):
        above = np.exp(log_loss(truth, np.log([edge]), np.log([1e20 / 6 / edge])))[0] / best_loss(truth, 1e20)
        assert above == pytest.approx(1.001, abs=2e-5)


def test_best_ratio_outside_the_runs_is_reported(truth):
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7, 9, 30)
    tokens = params * 10 ** rng.uniform(0, 1, 30)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)))
    assert "the allocation is an extrapolation" in _names((params, tokens, loss))["best D/N outside"]


def test_losses_in_two_groups_are_reported(truth):
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7, 9, 40)
    tokens = params * 10 ** rng.uniform(0, 2, 40)
    exact = log_loss(truth, np.log(params), np.log(tokens)) + 0.003 * rng.standard_normal(40)
    assert "two groups" not in _names((params, tokens, np.exp(exact)))
    jump = np.where(np.arange(40) < 10, 0.2, 0.0)
    assert "those of 10 runs" in _names((params, tokens, np.exp(exact + jump)))["two groups"]
