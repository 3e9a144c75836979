import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from speechscale.laws import allocation, fit_single_epoch
from speechscale.laws.checks import check_law
from speechscale.laws.family import (
    LOG_NO_FLOOR,
    MEMBERS,
    PRIOR,
    FamilyObjective,
    to_theta,
)
from speechscale.laws.family_fit import draw_member, fit_member
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import SingleEpochObjective, log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import NewtonSettings, minimise
from speechscale.laws.single_epoch import HUBER_EFFICIENCY, MIN_EXPONENT
from speechscale.records.law import FitOptions

# (ln A, ln B, ln E, alpha, beta, ln gamma, c)
LAWS = {
    "additive": np.array([np.log(13.9), np.log(39.8), np.log(1.73), 0.25, 0.24, 0.0, 0.0]),
    "power": np.array([np.log(200.0), np.log(900.0), np.log(1.2), 0.45, 0.42, np.log(0.55), 0.0]),
    "power_without_E": np.array([np.log(200.0), np.log(900.0), LOG_NO_FLOOR, 0.3, 0.28, np.log(0.3), 0.0]),
    "coupled": np.array([np.log(30.0), np.log(39.8), np.log(1.5), 0.28, 0.33, 0.0, 0.08]),
}
# What a parameter recovered through noise of 0.05 % may be off by.
TOLERANCES = np.array([0.5, 0.5, 0.01, 0.03, 0.03, 0.1, 0.02])
members = pytest.mark.parametrize("name", MEMBERS)


def simulated(theta: np.ndarray, count: int = 60, noise: float = 0.0, seed: int = 0) -> Ladder:
    """A ladder of 10 M to 3 B parameters at 1 to 160 tokens each."""
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7.0, 9.5, count)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
    exact = log_loss(theta, np.log(params), np.log(tokens))
    return Ladder.of(params, tokens, np.exp(exact + noise * rng.standard_normal(count)))


def random_phi(name: str, count: int, seed: int = 0) -> np.ndarray:
    """Coordinates of a member near ordinary laws, the held ones at their values."""
    rng = np.random.default_rng(seed)
    middle = np.array([-0.5, -0.3, 0.3, np.log(0.3), np.log(0.25), np.log(0.5), 0.0])
    phi = middle + np.array([0.5, 0.5, 0.4, 0.3, 0.3, 0.4, 0.1]) * rng.standard_normal((count, 7))
    held = np.array([0.0, 0.0, LOG_NO_FLOOR, 0.0, 0.0, 0.0, 0.0])
    return np.where(MEMBERS[name].free, phi, held)


def problem(name: str, delta: float, spread: float) -> tuple[FamilyObjective, np.ndarray, np.ndarray]:
    """An objective with targets off its laws by `spread`, and uneven weights."""
    ladder = simulated(LAWS[name], count=20)
    objective = FamilyObjective(ladder, delta, MEMBERS[name])
    rng = np.random.default_rng(1)
    around = objective.log_loss(random_phi(name, 1))[0] + spread * rng.standard_normal(20)
    return (
        objective,
        np.concatenate([around, objective.prior_targets]),
        rng.uniform(0.5, 2, 20 + objective.priors),
    )


def differences(function, phi: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences (..., 7) of a function of phi (7,)."""
    return np.stack(
        [(function(phi + step * row) - function(phi - step * row)) / (2 * step) for row in np.eye(7)], axis=-1
    )


@members
@pytest.mark.parametrize("seed", range(3))
def test_gradient_and_hessian_agree_with_finite_differences(name, seed):
    objective, targets, weights = problem(name, delta=10.0, spread=0.2)
    phi = random_phi(name, 1, seed)[0]

    def model(at: np.ndarray):
        return objective(at[None], targets, weights, np.zeros(1))

    at = model(phi)
    scale = np.abs(at.matrix).max()
    assert differences(lambda p: model(p).value[0], phi) == pytest.approx(
        at.gradient[0], rel=1e-6, abs=1e-8 * scale
    )
    assert differences(lambda p: model(p).gradient[0], phi) == pytest.approx(
        at.matrix[0], rel=1e-6, abs=1e-8 * scale
    )


@members
def test_gradient_agrees_with_finite_differences_where_residuals_are_clipped(name):
    objective, targets, weights = problem(name, delta=0.05, spread=0.1)
    phi = random_phi(name, 1)[0]
    residuals = np.abs(objective.log_loss(phi[None])[0] - targets[:20])
    assert 5 <= np.sum(residuals > objective.delta) <= 15
    found = objective(phi[None], targets, weights, np.zeros(1)).gradient[0]
    by_value = differences(lambda p: objective(p[None], targets, weights, np.zeros(1)).value[0], phi, 1e-6)
    assert by_value == pytest.approx(found, rel=1e-6, abs=1e-9)


@members
def test_jacobian_agrees_with_finite_differences(name):
    objective, _, _ = problem(name, delta=0.05, spread=0.1)
    phi = random_phi(name, 1)[0]
    by_value = differences(lambda p: objective.log_loss(p[None])[0], phi)
    found = objective.jacobian(phi)
    assert found[:20] == pytest.approx(by_value, rel=1e-6, abs=1e-9)
    priors = np.zeros((objective.priors, 7))
    for row, (k, scale) in enumerate(zip(objective.coordinates, objective.scales, strict=True)):
        priors[row, k] = scale
    assert np.array_equal(found[20:], priors)


@members
def test_many_points_at_once_give_what_each_gives_alone(name):
    objective, targets, weights = problem(name, delta=0.1, spread=0.1)
    phi, damping = random_phi(name, 5), np.linspace(0, 2, 5)
    rows = targets + 0.01 * np.random.default_rng(2).standard_normal((5, len(targets)))
    together = objective(phi, rows, weights, damping)
    for k in range(5):
        alone = objective(phi[k : k + 1], rows[k], weights, damping[k : k + 1])
        assert together.value[k] == pytest.approx(alone.value[0], rel=1e-12)
        assert together.gradient[k] == pytest.approx(alone.gradient[0], rel=1e-9, abs=1e-12)
        assert together.matrix[k] == pytest.approx(alone.matrix[0], rel=1e-9, abs=1e-12)


@members
def test_coordinates_of_the_fit_describe_the_law_of_theta(name):
    ladder = simulated(LAWS[name])
    objective = FamilyObjective(ladder, 0.03, MEMBERS[name])
    phi = random_phi(name, 10)
    theta = to_theta(phi, ladder.centring)
    assert objective.log_loss(phi) == pytest.approx(log_loss(theta, ladder.log_n, ladder.log_d), abs=1e-12)
    log_a, log_b, log_e, alpha, beta, log_gamma, c = theta.T[..., None]
    inner = np.exp(log_a) / ladder.params**alpha + np.exp(log_b) * ladder.params**c / ladder.tokens**beta
    by_hand = np.exp(log_e) + inner ** np.exp(log_gamma)
    assert np.exp(objective.log_loss(phi)) == pytest.approx(by_hand, rel=1e-11)
    assert (theta[:, 3:5] > 0).all()


def test_slopes_of_the_fit_are_those_far_from_the_corner():
    """Where the term of N rules, the loss falls as N^-alpha', whatever gamma."""
    ladder = simulated(LAWS["power"])
    phi = np.array([0.0, -30.0, LOG_NO_FLOOR, np.log(0.3), np.log(0.2), np.log(0.4), 0.0])
    theta = to_theta(phi, ladder.centring)
    twice = np.log([1e9, 2e9])
    lower, upper = log_loss(theta, twice, np.log([1e10, 1e10]))
    assert (lower - upper) / np.log(2) == pytest.approx(0.3, rel=1e-9)


def test_a_gamma_of_one_without_coupling_is_the_additive_law_to_the_last_bit(make_runs):
    rng = np.random.default_rng(0)
    params, tokens, _ = make_runs(40)
    five = LAWS["additive"][:5] + 0.1 * rng.standard_normal((20, 5))
    seven = np.concatenate([five, np.zeros((20, 2))], axis=1)
    log_n, log_d = np.log(params), np.log(tokens)
    assert np.array_equal(log_loss(five, log_n, log_d), log_loss(seven, log_n, log_d))
    a, b, e, alpha, beta = five.T[..., None]
    by_hand = np.exp(e) + np.exp(a) / params**alpha + np.exp(b) / tokens**beta
    assert np.exp(log_loss(seven, log_n, log_d)) == pytest.approx(by_hand, rel=1e-13)


def test_additive_member_has_the_objective_of_the_single_epoch_law():
    """Without priors; the exponents enter as logarithms, so their derivatives differ by the chain rule."""
    ladder = simulated(LAWS["additive"], noise=0.05)
    delta, centre = 0.04, ladder.centring
    family = FamilyObjective(ladder, delta, MEMBERS["additive"])
    single = SingleEpochObjective(ladder.log_n - centre.log_n, ladder.log_d - centre.log_d, delta)
    phi = random_phi("additive", 4)
    theta = phi[:, :5].copy()
    theta[:, 3:] = np.exp(theta[:, 3:])
    targets = np.concatenate([ladder.log_loss, family.prior_targets])
    weights = np.concatenate([np.linspace(0.5, 2, 60), np.zeros(family.priors)])
    one = family(phi, targets, weights, np.zeros(4))
    other = single(theta, ladder.log_loss, weights[:60], np.zeros(4))
    chain = np.concatenate([np.ones((4, 3)), theta[:, 3:]], axis=1)
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.gradient[:, :5] == pytest.approx(other.gradient * chain, rel=1e-9, abs=1e-12)


@members
def test_every_free_coordinate_has_a_prior(name):
    objective, _, _ = problem(name, delta=0.05, spread=0.1)
    free = {k for k in range(7) if MEMBERS[name].free[k]}
    assert set(objective.coordinates) == free


@members
def test_a_prior_one_deviation_off_costs_as_much_as_a_run_off_by_the_noise(name):
    ladder = simulated(LAWS[name], count=20)
    objective = FamilyObjective(ladder, 0.05, MEMBERS[name])
    noise = 0.05 / HUBER_EFFICIENCY
    targets = np.concatenate([ladder.log_loss, objective.prior_targets])
    priors_alone = np.concatenate([np.zeros(20), np.ones(objective.priors)])
    phi = random_phi(name, 1)
    typical = float(np.median(ladder.log_loss))
    levels = {0: typical, 1: typical, 2: float(ladder.log_loss.min())}
    for k in objective.coordinates:
        phi[0, k] = PRIOR[k][0] + levels.get(k, 0.0)
    at_mean = objective(phi, targets, priors_alone, np.zeros(1))
    assert at_mean.value[0] == pytest.approx(0, abs=1e-25)
    for k in objective.coordinates:
        off, deviation = phi.copy(), PRIOR[k][1]
        off[0, k] += deviation
        model = objective(off, targets, priors_alone, np.zeros(1))
        by_hand = np.zeros(7)
        by_hand[k] = noise**2 / deviation
        assert model.value[0] == pytest.approx(noise**2 / 2, rel=1e-9)
        assert model.gradient[0] == pytest.approx(by_hand, rel=1e-9, abs=1e-15)
        assert model.matrix[0, k, k] == pytest.approx((noise / deviation) ** 2, rel=1e-9)


@members
def test_priors_of_huge_weight_hold_their_coordinates_at_their_means(name):
    ladder = simulated(LAWS[name], count=20, noise=0.01)
    objective = FamilyObjective(ladder, 10.0, MEMBERS[name])
    targets = np.concatenate([ladder.log_loss, objective.prior_targets])
    weights = np.concatenate([np.ones(20), np.full(objective.priors, 1e10)])
    found = minimise(
        objective,
        random_phi(name, 3, seed=4),
        targets,
        weights,
        basis=MEMBERS[name].basis,
        settings=NewtonSettings(),
    )
    best = found.theta[np.argmin(found.value)]
    quarter = np.log(0.25) + np.median(ladder.log_loss)
    half = np.log(0.5) + ladder.log_loss.min()
    means = [quarter, quarter, half, np.log(0.3), np.log(0.3), np.log(0.5), 0.0]
    for k in objective.coordinates:
        assert best[k] == pytest.approx(means[k], abs=1e-6)


# Allocation


def random_laws(name: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    spread = np.array([0.5, 0.5, 0.2, 0.03, 0.03, 0.2, 0.05])
    moved = LAWS[name] + spread * rng.uniform(-1, 1, (count, 7))
    return np.where(MEMBERS[name].free, moved, LAWS[name])


def brute_force(theta: np.ndarray, flops: float) -> tuple[float, float]:
    """Ln N and loss of the best split of a budget."""
    log_c = np.log(flops / 6)

    def loss(log_n: float) -> float:
        return float(np.exp(log_loss(theta, np.array([log_n]), np.array([log_c - log_n]))[0]))

    grid = np.linspace(5, log_c - 5, 400)
    best = grid[np.argmin([loss(log_n) for log_n in grid])]
    found = minimize_scalar(loss, bounds=(best - 1, best + 1), method="bounded", options={"xatol": 1e-9})
    return float(found.x), float(found.fun)


@members
@pytest.mark.parametrize("flops", [1e19, 1e23])
def test_best_split_is_that_of_brute_force(name, flops):
    for theta in random_laws(name, 4):
        log_n, loss = brute_force(theta, flops)
        found_n, found_d = allocation.log_optimum(theta, flops)
        assert found_n == pytest.approx(log_n, abs=1e-4)
        assert found_n + found_d == pytest.approx(np.log(flops / 6), rel=1e-14)
        assert allocation.best_loss(theta, flops) == pytest.approx(loss, rel=1e-12)
        assert allocation.flops_for(theta, loss) == pytest.approx(flops, rel=1e-8)
        assert allocation.log_params_for(theta, found_d) == pytest.approx(log_n, abs=1e-4)


@members
def test_arrays_of_laws_and_budgets_give_what_each_gives_alone(name):
    laws, flops = random_laws(name, 4), np.geomspace(1e18, 1e24, 4)
    log_n, log_d = allocation.log_optimum(laws, flops)
    losses = allocation.best_loss(laws, flops)
    for k in range(4):
        assert (log_n[k], log_d[k]) == pytest.approx(allocation.log_optimum(laws[k], flops[k]), rel=1e-14)
        assert losses[k] == pytest.approx(float(allocation.best_loss(laws[k], flops[k])), rel=1e-14)
    assert allocation.flops_for(laws, losses) == pytest.approx(flops, rel=1e-7)


def test_no_budget_reaches_the_floor():
    theta = LAWS["power"]
    assert allocation.flops_for(theta, 1.2) == np.inf
    assert allocation.flops_for(theta, 1.1) == np.inf
    assert np.isfinite(allocation.flops_for(theta, 1.21))


def test_no_split_is_best_where_both_terms_fall_with_parameters_at_fixed_compute():
    """B N^c/D^beta = B N^(beta + c) / (C/6)^beta rises with N only where beta + c > 0."""
    theta = LAWS["coupled"].copy()
    theta[6] = -theta[4] - 0.05
    assert np.isnan(allocation.log_optimum(theta, 1e21)[0])
    assert np.isnan(allocation.best_loss(theta, 1e21))


@pytest.mark.parametrize("columns", [5, 7])
def test_additive_split_is_that_of_hoffmann_equation_4(columns):
    a, b, e, alpha, beta = 406.4, 410.7, 1.69, 0.34, 0.28
    theta = np.array([np.log(a), np.log(b), np.log(e), alpha, beta, 0.0, 0.0])[:columns]
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    exponent = beta / (alpha + beta)
    flops = 5.76e23
    n, d = g * (flops / 6) ** exponent, (flops / 6) ** (1 - exponent) / g
    assert allocation.split_params(theta) == pytest.approx({"a": exponent, "b": 1 - exponent, "G": g})
    assert np.exp(allocation.log_optimum(theta, flops)) == pytest.approx([n, d], rel=1e-10)
    assert allocation.best_loss(theta, flops) == pytest.approx(e + a / n**alpha + b / d**beta, rel=1e-12)


# Fits


@members
def test_recovers_each_member_from_its_own_runs_without_noise(name):
    ladder = simulated(LAWS[name])
    fit = fit_member(name, ladder)
    assert fit.converged
    assert fit.theta == pytest.approx(LAWS[name], abs=3e-4)
    assert log_loss(fit.theta, ladder.log_n, ladder.log_d) == pytest.approx(ladder.log_loss, abs=1e-6)
    assert to_theta(fit.phi, ladder.centring) == pytest.approx(fit.theta, rel=1e-12)


@members
@pytest.mark.parametrize("seed", range(3))
def test_recovers_each_member_through_slight_noise(name, seed):
    ladder = simulated(LAWS[name], noise=5e-4, seed=seed)
    fit = fit_member(name, ladder)
    exact = log_loss(LAWS[name], ladder.log_n, ladder.log_d)
    assert fit.converged
    assert log_loss(fit.theta, ladder.log_n, ladder.log_d) == pytest.approx(exact, abs=1e-3)
    off = np.abs(fit.theta - LAWS[name])
    assert (off <= TOLERANCES * MEMBERS[name].free).all(), off
    assert fit.noise == pytest.approx(5e-4, rel=0.4)


@members
def test_an_outlier_moves_no_forecast_much(name):
    ladder = simulated(LAWS[name], noise=5e-4)
    loss = ladder.loss.copy()
    loss[7] *= 1.2
    spoilt = fit_member(name, Ladder(ladder.params, ladder.tokens, loss, ladder.weights))
    exact = log_loss(LAWS[name], ladder.log_n, ladder.log_d)
    assert log_loss(spoilt.theta, ladder.log_n, ladder.log_d) == pytest.approx(exact, abs=4e-3)


@members
def test_fit_is_the_least_minimum_of_a_wider_search(name):
    ladder = simulated(LAWS["additive"], count=24, noise=0.005, seed=1)
    fit = fit_member(name, ladder)
    targets = np.concatenate([ladder.log_loss, fit.objective.prior_targets])
    ones = np.ones(len(targets))
    rng = np.random.default_rng(0)
    starts = np.concatenate([fit.phi + 0.3 * rng.standard_normal((20, 7)), random_phi(name, 20)])
    starts = np.where(MEMBERS[name].free, starts, fit.phi)
    wide = minimise(fit.objective, starts, targets, ones, basis=MEMBERS[name].basis)
    least = np.nanmin(wide.value)
    own = fit.objective(fit.phi[None], targets, ones, np.zeros(1)).value[0]
    assert own <= least * (1 + 1e-7)


@members
def test_exponents_stay_above_zero_where_loss_rises_with_size(name):
    """Every larger model is worse here: the published fit holds alpha at its bound, and says so."""
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7.0, 9.5, 40)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, 40)
    loss = 1.5 + 60 / tokens**0.25 + 1e-3 * params**0.3
    free = fit_single_epoch(params, tokens, loss)
    assert free.params["alpha"] == MIN_EXPONENT
    law = FittedLaw.of(free, FitOptions(bootstrap=100))
    assert (law.draws[:, 3:5] > 0).all()
    checks = check_law(law, [str(k) for k in range(40)])
    assert any(
        check.check == "exponent at bound" and "alpha is held at 0.01" in check.message for check in checks
    )
    fit = fit_member(name, Ladder.of(params, tokens, loss))
    assert (fit.theta[3:5] > 0).all()
    drawn = draw_member(fit, 50, np.random.default_rng(0))
    assert (drawn[:, 3:5] > 0).all()


def test_too_few_distinct_runs_give_no_fit():
    """Two runs more than free parameters are wanted: 7 for the additive law, 8 with gamma or a coupling."""
    least = {"additive": 7, "power": 8, "power_without_E": 7, "coupled": 8}
    for name, count in least.items():
        ladder = simulated(LAWS["additive"], count=count, noise=0.003)
        assert fit_member(name, ladder) is not None
        rows = np.arange(count - 1)
        assert fit_member(name, ladder.take(rows)) is None
        assert fit_member(name, ladder.take(np.append(rows, rows))) is None  # the same runs twice


def test_equal_losses_give_no_fit():
    ladder = simulated(LAWS["additive"], count=20)
    assert fit_member("additive", Ladder.of(ladder.params, ladder.tokens, np.full(20, 2.0))) is None


@members
def test_draws_repeat_with_the_seed_and_leave_held_parameters_alone(name):
    fit = fit_member(name, simulated(LAWS[name], count=30, noise=0.003))
    one, two, other = (draw_member(fit, 40, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    held = ~np.array(MEMBERS[name].free)
    assert np.array_equal(one[:, held], np.repeat(fit.theta[held][None], 40, axis=0))
    assert (one[:, ~held].std(axis=0) > 0).all()


@members
def test_draws_spread_as_refits_to_other_ladders_of_the_same_truth_do(name):
    """Ln L in the middle of the runs and at their ends, which all runs determine."""
    truth, noise = LAWS[name], 0.003
    ladder = simulated(truth, count=150, noise=noise, seed=5)
    fit = fit_member(name, ladder)
    at = np.log([[3e7, 3e8, 2e9], [1e9, 5e9, 1e11]])
    drawn = log_loss(draw_member(fit, 400, np.random.default_rng(0)), *at)
    exact = log_loss(truth, ladder.log_n, ladder.log_d)
    others = exact + noise * np.random.default_rng(1).standard_normal((400, 150))
    targets = np.concatenate([others, np.repeat(fit.objective.prior_targets[None], 400, axis=0)], axis=1)
    found = minimise(
        fit.objective,
        np.repeat(fit.phi[None], 400, axis=0),
        targets,
        np.ones(targets.shape[1]),
        basis=MEMBERS[name].basis,
        settings=NewtonSettings(damping=0.1, tolerance=1e-6),
    )
    refits = log_loss(to_theta(found.theta, ladder.centring), *at)
    assert drawn.std(axis=0) == pytest.approx(refits.std(axis=0), rel=0.25)
    assert drawn.mean(axis=0) == pytest.approx(log_loss(fit.theta, *at), abs=0.5 * refits.std(axis=0).max())
