import numpy as np
import pytest
from scipy.optimize import minimize

from speechscale.errors import UserError
from speechscale.laws import draw_laws, fit_single_epoch
from speechscale.laws.bootstrap import leverages
from speechscale.laws.forms import SingleEpochObjective, huber, log_loss, named
from speechscale.laws.ladder import ParameterConstraint
from speechscale.laws.single_epoch import refit
from speechscale.laws.starts import published_starts
from speechscale.laws.table import fit_table


@pytest.mark.parametrize("delta", [None, 1e-3, 0.03])
def test_recovers_a_law_without_noise(make_runs, delta):
    fit = fit_single_epoch(*make_runs(), delta=delta)
    assert fit.params == pytest.approx(
        {"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24}, rel=1e-6
    )
    assert fit.converged


def test_recovers_a_law_through_noise(make_runs):
    fit = fit_single_epoch(*make_runs(200, noise=0.002))
    assert fit.params["alpha"] == pytest.approx(0.25, abs=0.03)
    assert fit.params["beta"] == pytest.approx(0.24, abs=0.02)
    assert fit.noise == pytest.approx(0.002, rel=0.25)
    assert fit.delta == pytest.approx(1.345 * fit.noise, rel=0.05)


def _chinchilla_like(seed: int, count: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7.6, 10.2, count)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
    law = 1.82 + 482 / params**0.348 + 2085 / tokens**0.366
    return params, tokens, law * np.exp(0.004 * rng.standard_t(4, count))


@pytest.mark.parametrize("seed", range(3))
def test_no_start_of_brute_force_ends_lower(seed):
    """Forty random published starts, and twenty around the optimum, through SciPy with tight tolerances."""
    params, tokens, loss = _chinchilla_like(seed)
    fit = fit_single_epoch(params, tokens, loss, delta=1e-3)
    objective = SingleEpochObjective(np.log(params), np.log(tokens), 1e-3)
    rng = np.random.default_rng(seed)

    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        at = objective(theta[None], np.log(loss), np.ones(len(loss)), np.zeros(1))
        return at.value[0], at.gradient[0]

    starts = np.concatenate(
        [published_starts()[rng.permutation(4500)[:40]], fit.theta + 0.2 * rng.standard_normal((20, 5))]
    )
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 3000, "maxfun": 5000}
    least = min(minimize(both, s, jac=True, method="L-BFGS-B", options=options).fun for s in starts)
    assert fit.objective <= least * (1 + 1e-10)
    assert least == pytest.approx(fit.objective, rel=1e-5)
    assert fit.objective == pytest.approx(np.sum(huber(fit.residuals, 1e-3)), rel=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_all_published_starts_find_nothing_better(seed):
    params, tokens, loss = _chinchilla_like(seed, 60)
    quick = fit_single_epoch(params, tokens, loss, delta=1e-3)
    slow = fit_single_epoch(params, tokens, loss, delta=1e-3, exhaustive=True)
    assert slow.convergence.starts == quick.convergence.starts + 4500
    assert quick.objective == pytest.approx(slow.objective, rel=1e-9)


def test_order_of_runs_does_not_matter(make_runs):
    runs = make_runs(40, noise=0.003)
    turned = tuple(column[::-1] for column in runs)
    assert fit_single_epoch(*turned).params == pytest.approx(fit_single_epoch(*runs).params, rel=1e-6)


def test_weight_of_two_equals_a_repeated_run(make_runs):
    runs = make_runs(30, noise=0.003)
    weights = np.ones(30)
    weights[[3, 7]] = 2
    twice = tuple(np.append(column, column[[3, 7]]) for column in runs)
    weighted = fit_single_epoch(*runs, weights=weights, delta=0.005)
    assert weighted.params == pytest.approx(fit_single_epoch(*twice, delta=0.005).params, rel=1e-6)
    assert weighted.objective == pytest.approx(fit_single_epoch(*twice, delta=0.005).objective, rel=1e-9)


def test_a_common_factor_of_the_weights_changes_nothing(make_runs):
    runs = make_runs(30, noise=0.003)
    ten = fit_single_epoch(*runs, weights=np.full(30, 10.0), delta=0.005)
    one = fit_single_epoch(*runs, delta=0.005)
    assert ten.params == pytest.approx(one.params, rel=1e-6)
    assert ten.objective == pytest.approx(10 * one.objective, rel=1e-9)


def test_units_of_n_and_d_move_a_and_b_alone(make_runs):
    params, tokens, loss = make_runs(40, noise=0.003)
    one = fit_single_epoch(params, tokens, loss).params
    other = fit_single_epoch(params / 1e6, tokens / 1e9, loss).params
    assert [other[k] for k in ("E", "alpha", "beta")] == pytest.approx(
        [one[k] for k in ("E", "alpha", "beta")], rel=1e-5
    )
    assert other["A"] == pytest.approx(one["A"] / 1e6 ** one["alpha"], rel=1e-4)
    assert other["B"] == pytest.approx(one["B"] / 1e9 ** one["beta"], rel=1e-4)


def test_tied_exponents_are_equal_and_fixed_parameters_stay(make_runs):
    runs = make_runs(40, noise=0.003)
    tied = fit_single_epoch(*runs, constraint=ParameterConstraint.of(tied=True))
    assert tied.params["alpha"] == tied.params["beta"]
    assert tied.allocation["a"] == 0.5
    fixed = fit_single_epoch(*runs, constraint=ParameterConstraint.of(fixed={"E": 1.7, "alpha": 0.3}))
    assert fixed.params["E"] == pytest.approx(1.7) and fixed.params["alpha"] == pytest.approx(0.3)
    free = fit_single_epoch(*runs, delta=fixed.delta)
    assert free.objective < fixed.objective


def test_an_outlier_moves_a_robust_fit_little(make_runs):
    params, tokens, loss = make_runs(40, noise=0.002)
    spoilt = loss.copy()
    spoilt[5] *= 1.3
    robust = fit_single_epoch(params, tokens, spoilt)
    squares = fit_single_epoch(params, tokens, spoilt, delta=10.0)
    clean = fit_single_epoch(params, tokens, loss).theta
    assert np.abs(robust.theta - clean)[3:].max() < 0.2 * np.abs(squares.theta - clean)[3:].max()


def test_refits_are_the_optima_of_their_own_data(make_runs):
    runs = make_runs(40, noise=0.003)
    fit = fit_single_epoch(*runs, delta=0.004)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(40, np.full(40, 1 / 40), 5).astype(float)
    again = refit(fit, fit.ladder.log_loss, weights)
    for row, theta in zip(weights, again, strict=True):
        alone = fit_single_epoch(*runs, weights=row, delta=0.004)
        mine = np.sum(
            row * huber(log_loss(theta, fit.ladder.log_n, fit.ladder.log_d) - fit.ladder.log_loss, 0.004)
        )
        assert mine == pytest.approx(alone.objective, rel=1e-6)


def test_leverages_add_up_to_the_free_parameters(make_runs):
    assert leverages(fit_single_epoch(*make_runs(40, noise=0.003))).sum() == pytest.approx(5, abs=1e-6)
    assert leverages(
        fit_single_epoch(*make_runs(40, noise=0.003), constraint=ParameterConstraint.of(tied=True))
    ).sum() == pytest.approx(4, abs=1e-6)


def test_draws_repeat_with_the_seed_and_obey_constraints(make_runs):
    fit = fit_single_epoch(*make_runs(40, noise=0.003), constraint=ParameterConstraint.of(tied=True))
    one, two = draw_laws(fit, 50, 3), draw_laws(fit, 50, 3)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, draw_laws(fit, 50, 4))
    assert np.abs(one[:, 3] - one[:, 4]).max() < 1e-12


def test_too_few_runs_are_refused_in_a_sentence(make_runs):
    with pytest.raises(UserError, match="5 distinct runs cannot determine 5 parameters"):
        fit_single_epoch(*make_runs(5))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, -1.0, "params: run 3 holds -1"),
        (1, np.nan, "tokens: run 3 holds nan"),
        (2, 0.0, "loss: run 3 holds 0"),
    ],
)
def test_bad_values_are_named(make_runs, column, value, message):
    runs = list(make_runs(10))
    runs[column] = runs[column].copy()
    runs[column][2] = value
    with pytest.raises(UserError, match=message):
        fit_single_epoch(*runs)


def test_runs_that_cannot_be_fitted_are_refused(make_runs):
    params, tokens, loss = make_runs(10)
    with pytest.raises(UserError, match="params: not a column of numbers"):
        fit_single_epoch(["many"] * 10, tokens, loss)
    with pytest.raises(UserError, match="delta is 0; a number above zero"):
        fit_single_epoch(params, tokens, loss, delta=0.0)
    with pytest.raises(UserError, match="0 distinct runs"):
        fit_single_epoch(params, tokens, loss, weights=np.zeros(10))


def test_contradicting_constraints_are_refused():
    with pytest.raises(UserError, match="tied"):
        ParameterConstraint.of(tied=True, fixed={"alpha": 0.3})
    with pytest.raises(UserError, match="cannot fix 'gamma'"):
        ParameterConstraint.of(fixed={"gamma": 0.3})


def test_params_agree_with_theta(make_runs):
    fit = fit_single_epoch(*make_runs())
    assert fit.params == named(fit.theta)
    assert fit.loss([1e8], [1e10])[0] == pytest.approx(1.73 + 13.9 / 1e8**0.25 + 39.8 / 1e10**0.24)


def test_draws_of_exponents_stay_above_zero(make_runs):
    """Without a bound, draws of losses that rise with N and D reach below zero."""
    params, tokens, _ = make_runs(10)
    rng = np.random.default_rng(0)
    loss = 1 + 0.1 * np.log(tokens) + 0.02 * rng.standard_normal(10)
    draws = draw_laws(fit_single_epoch(params, tokens, loss), 200, seed=0)
    assert draws[:, 3:].min() > 0


def test_parameters_of_runs_of_one_size_have_no_interval(truth):
    params, tokens = np.full(12, 1e8), np.geomspace(1e9, 1e11, 12)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)))
    assert fit_single_epoch(params, tokens, loss).undetermined == ("A", "alpha", "E")
    fixed = ParameterConstraint.of(fixed={"alpha": 0.25, "A": 13.9})
    assert fit_single_epoch(params, tokens, loss, constraint=fixed).undetermined == ()
    law = fit_table({"N": params, "D": tokens, "L": loss}, bootstrap=100).series["runs"].single_epoch
    assert law.interval95.alpha is None and law.interval95.E is None and law.interval95.beta is not None
    assert law.allocation.interval95.a is None
