import numpy as np
import pytest

from speechscale.laws.forms import Centring, SingleEpochObjective, huber, log_loss, named, to_theta


def test_log_loss_is_the_law(truth):
    params, tokens = np.array([2e7, 8e8]), np.array([4e8, 8e10])
    law = 1.73 + 13.9 / params**0.25 + 39.8 / tokens**0.24
    assert np.exp(log_loss(truth, np.log(params), np.log(tokens))) == pytest.approx(law, rel=1e-14)


def test_theta_and_names_are_inverse(truth):
    assert named(truth) == pytest.approx({"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24})
    assert to_theta(named(truth)) == pytest.approx(truth)


def test_huber_is_square_inside_and_linear_outside():
    assert huber(np.array([0.01, -0.02, 0.5]), 0.03) == pytest.approx([0.5e-4, 2e-4, 0.03 * (0.5 - 0.015)])


def test_centring_leaves_the_law_unchanged(truth, make_runs):
    params, tokens, _ = make_runs(10)
    log_n, log_d = np.log(params), np.log(tokens)
    centre = Centring(float(log_n.mean()), float(log_d.mean()))
    moved = log_loss(centre.centred(truth), log_n - centre.log_n, log_d - centre.log_d)
    assert moved == pytest.approx(log_loss(truth, log_n, log_d), rel=1e-13)
    assert centre.restored(centre.centred(truth)) == pytest.approx(truth)


@pytest.mark.parametrize("delta", [1e-3, 0.03, 10.0])
def test_gradient_and_hessian_agree_with_finite_differences(truth, make_runs, delta):
    params, tokens, loss = make_runs(30, noise=0.01)
    objective = SingleEpochObjective(np.log(params) - 19, np.log(tokens) - 22, delta)
    centre = Centring(19.0, 22.0)
    theta = (centre.centred(truth) + np.array([0.05, -0.1, 0.02, 0.03, -0.02]))[None]
    weights = np.linspace(0.5, 2.0, 30)
    at = objective(theta, np.log(loss), weights, np.zeros(1))
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        up, down = (objective(theta + sign * step, np.log(loss), weights, np.zeros(1)) for sign in (1, -1))
        assert (up.value - down.value) / 2e-6 == pytest.approx(at.gradient[:, k], rel=1e-5, abs=1e-9)
        assert (up.gradient - down.gradient)[0] / 2e-6 == pytest.approx(at.matrix[0, k], rel=1e-4, abs=1e-6)


def test_jacobian_agrees_with_finite_differences(truth, make_runs):
    params, tokens, _ = make_runs(8)
    log_n, log_d = np.log(params), np.log(tokens)
    jacobian = SingleEpochObjective(log_n, log_d, 0.03).jacobian(truth)
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        difference = log_loss(truth + step, log_n, log_d) - log_loss(truth - step, log_n, log_d)
        assert difference / 2e-6 == pytest.approx(jacobian[:, k], abs=1e-7)


def test_majoriser_is_never_negative(truth, make_runs):
    params, tokens, loss = make_runs(20, noise=0.05)
    objective = SingleEpochObjective(np.log(params), np.log(tokens), 1e-3)
    at, damped = (
        objective(truth[None] + 0.3, np.log(loss), np.ones(20), np.array([d])).matrix[0] for d in (0.0, 1.0)
    )
    assert np.linalg.eigvalsh(damped - at).min() > -1e-9 * np.trace(damped)
