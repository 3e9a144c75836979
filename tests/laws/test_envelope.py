import numpy as np
import pytest

from speechscale.laws.envelope import DEFINITIONS, CurvePoints, envelopes, fit_envelope, polynomial


@pytest.fixture
def power_law():
    """Five curves; the least loss at any compute is exactly 9 C^-0.05."""
    flops = np.tile(np.geomspace(1e15, 1e19, 60), 5)
    curve = np.repeat(np.arange(5), 60)
    above = 0.4 * (np.log10(flops) - (15.4 + 0.8 * curve)) ** 2
    at_best = np.abs(np.log10(flops) - (15.4 + 0.8 * curve)) <= 0.41
    loss = 9 * flops**-0.05 * np.where(at_best, 1.0, 1 + 0.1 * above)
    return CurvePoints.of(flops, loss, curve)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_definition_recovers_a_power_law(power_law, definition):
    fit = fit_envelope(power_law, definition, resamples=0, seed=0)
    # A budget between two points has the loss of the cheaper one, so "budgets" moves in steps.
    assert fit.gamma[0] == pytest.approx(-0.05, rel=1e-2 if definition == "budgets" else 1e-3)
    assert np.exp(fit.log_coefficient[0]) == pytest.approx(9.0, rel=0.05)
    assert abs(fit.curvature[0]) < 1e-4


def test_records_are_the_points_that_beat_every_cheaper_one():
    points = CurvePoints.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 4.0, 4.5]), np.zeros(4, int))
    held = envelopes(points, "records", np.ones((1, 1), bool)).mask
    assert held.tolist() == [[True, False, True, False]]


def test_a_curve_left_out_leaves_the_envelope(power_law):
    chosen = np.ones((2, 5), bool)
    chosen[1, 4] = False
    both = envelopes(power_law, "budgets", chosen).log_l
    assert (both[1] >= both[0]).all() and (both[1] > both[0]).any()


def test_offset_is_recovered():
    flops = np.geomspace(1e15, 1e21, 50)
    points = CurvePoints.of(flops, 1.7 + 300 * flops**-0.15, np.zeros(50, int))
    offset, log_k, gamma = fit_envelope(points, "records", resamples=0, seed=0).offset[0]
    assert offset == pytest.approx(1.7, rel=5e-3)
    assert gamma == pytest.approx(-0.15, rel=0.02)
    assert np.exp(log_k) == pytest.approx(300, rel=0.4)


def test_curvature_of_a_bent_envelope_is_recovered():
    flops = np.geomspace(1e15, 1e21, 50)
    bent = np.exp(1 - 0.03 * np.log(flops / 1e18) - 0.001 * np.log(flops / 1e18) ** 2)
    fit = fit_envelope(CurvePoints.of(flops, bent, np.zeros(50, int)), "records", resamples=0, seed=0)
    assert fit.curvature[0] == pytest.approx(-0.001, rel=0.05)


def test_polynomial_agrees_with_polyfit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=20), rng.normal(size=(3, 20))
    mask = rng.random((3, 20)) < 0.7
    found = polynomial(x, y, mask, 2)
    for row in range(3):
        assert found[row] == pytest.approx(np.polyfit(x[mask[row]], y[row][mask[row]], 2)[::-1], rel=1e-6)
