import numpy as np
import pytest
from scipy.optimize import minimize

from speechscale.laws import fit_single_epoch
from speechscale.laws.allocation import log_params_for
from speechscale.laws.forms import huber, log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.repeated import RepeatedDataObjective, effective_count, fit_repeated, log_effective

UNIQUE = 10.89e9
RATES = {"R_D": 12.0, "R_N": 9.0}


@pytest.fixture
def theta(truth):
    return np.append(truth, np.log([RATES["R_D"], RATES["R_N"]]))


@pytest.fixture
def epochs(theta):
    """Five sizes at 2 to 40 epochs, without noise."""
    params = np.repeat([2e7, 8.5e7, 1.5e8, 3e8, 8e8], 5)
    tokens = UNIQUE * np.tile([2.0, 4.0, 8.0, 16.0, 40.0], 5)
    log_n, log_d = log_effective(theta[None], np.log(params), np.log(tokens), np.log(np.full(25, UNIQUE)))
    return params, tokens, np.exp(log_loss(theta[None, :5], log_n, log_d)[0])


def test_effective_tokens_of_one_epoch_are_the_tokens():
    assert effective_count(np.log([5e9]), np.log([5e9]), np.log(7.0)).log == pytest.approx(np.log([5e9]))


def test_effective_tokens_are_the_published_formula():
    unique, seen, rate = 2e9, 9e9, 15.4
    worth = unique + unique * rate * (1 - np.exp(-(seen / unique - 1) / rate))
    assert np.exp(effective_count(np.log([unique]), np.log([seen]), np.log(rate)).log) == pytest.approx(
        [worth]
    )


def test_effective_tokens_saturate_at_one_plus_the_rate():
    assert np.exp(effective_count(np.array([0.0]), np.array([20.0]), np.log(15.4)).log) == pytest.approx(
        [16.4]
    )


def test_matched_parameters_are_those_whose_best_tokens_are_the_unique_ones(theta):
    log_n = float(log_params_for(theta[:5], np.log(UNIQUE)))
    sizes = log_n + np.linspace(-0.5, 0.5, 20001)
    losses = log_loss(theta[:5], sizes, log_n + np.log(UNIQUE) - sizes)
    assert sizes[np.argmin(losses)] == pytest.approx(log_n, abs=1e-3)


def test_jacobian_agrees_with_finite_differences(theta, epochs):
    params, tokens, _ = epochs
    # Few unique tokens, so that most sizes have parameters in excess and every branch is taken.
    objective = RepeatedDataObjective(np.log(params), np.log(tokens), np.log(np.full(25, UNIQUE / 40)), 0.03)
    _, jacobian = objective.predict(theta[None])
    for k in range(7):
        step = np.zeros(7)
        step[k] = 1e-6
        up, down = objective.predict((theta + step)[None])[0], objective.predict((theta - step)[None])[0]
        assert (up - down) / 2e-6 == pytest.approx(jacobian[:, k], abs=1e-7)


def test_objective_and_forecast_predict_the_same_loss(theta, epochs):
    """The fit and the plan compute the law in two ways; they must agree."""
    params, tokens, loss = epochs
    objective = RepeatedDataObjective(np.log(params), np.log(tokens), np.log(np.full(25, UNIQUE)), 0.03)
    assert objective.predict(theta[None])[0][0] == pytest.approx(np.log(loss), abs=1e-12)


def test_two_stages_recover_the_rates(make_runs, epochs):
    first = fit_single_epoch(*make_runs(60))
    fit = fit_repeated(first, Ladder.of(*epochs), np.full(25, UNIQUE))
    assert fit.rates == pytest.approx(RATES, rel=1e-3)


def test_joint_fit_recovers_everything_through_noise(theta, epochs, make_runs):
    rng = np.random.default_rng(2)
    single = make_runs(60, noise=0.001)
    # In the law's own terms a run of one epoch may have parameters in excess as well.
    unique = np.append(single[1], np.full(25, UNIQUE))
    params, tokens = np.append(single[0], epochs[0]), np.append(single[1], epochs[1])
    log_n, log_d = log_effective(theta[None], np.log(params), np.log(tokens), np.log(unique))
    loss = np.exp(log_loss(theta[None, :5], log_n, log_d)[0] + 0.001 * rng.standard_normal(len(params)))
    first = fit_single_epoch(*(column[:60] for column in (params, tokens, loss)))
    fit = fit_repeated(first, Ladder.of(params, tokens, loss), unique, joint=True)
    assert fit.rates["R_D"] == pytest.approx(12.0, rel=0.15)
    for name, rate in RATES.items():
        low, high = fit.profiles[name].low, fit.profiles[name].high
        assert low < rate < high

    def objective(x):
        n, d = log_effective(x[None], np.log(params), np.log(tokens), np.log(unique))
        return float(np.sum(huber(log_loss(x[None, :5], n, d)[0] - np.log(loss), first.delta)))

    brute = min(
        minimize(
            objective,
            fit.theta + 0.05 * rng.standard_normal(7),
            method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-15},
        ).fun
        for _ in range(3)
    )
    assert fit.objective <= brute * (1 + 1e-6)


def test_rate_of_few_repetitions_is_not_identified(make_runs, theta):
    params = np.array([2e7, 8e7, 3e8, 8e8])
    tokens = np.full(4, 1.2 * UNIQUE)
    log_n, log_d = log_effective(theta[None], np.log(params), np.log(tokens), np.log(np.full(4, UNIQUE)))
    rng = np.random.default_rng(0)
    loss = np.exp(log_loss(theta[None, :5], log_n, log_d)[0] + 0.003 * rng.standard_normal(4))
    fit = fit_repeated(
        fit_single_epoch(*make_runs(60, noise=0.003)), Ladder.of(params, tokens, loss), np.full(4, UNIQUE)
    )
    assert not fit.profiles["R_D"].closes
