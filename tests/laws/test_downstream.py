import numpy as np
import pytest

from speechscale.laws.allocation import best_loss
from speechscale.laws.downstream import (
    DownstreamFit,
    ScoreData,
    ScoreFitOptions,
    fit_downstream,
    fit_power,
    held_out_errors_by_form,
)
from speechscale.laws.efficiency import compare_efficiency
from speechscale.laws.scores import binomial_variance, fit_line

ITEMS = 2000.0


def _data(score: np.ndarray, flops: np.ndarray, loss: np.ndarray, items: float = ITEMS) -> ScoreData:
    return ScoreData.of(flops, loss, score, np.full(len(score), items), 0.5)


def fit_one(data: ScoreData, laws: np.ndarray | None, draws: int, ceiling: float = 1.0) -> DownstreamFit:
    return fit_downstream({"blimp": data}, laws, ScoreFitOptions(ceiling, draws))["blimp"]


@pytest.fixture
def runs(truth):
    """24 compute-optimal runs: FLOPs and losses."""
    flops = np.geomspace(1e17, 1e21, 24)
    return flops, best_loss(truth, flops)


def test_power_law_is_fitted_to_the_running_maximum():
    flops = np.geomspace(1e17, 1e21, 20)
    score = 0.3 * flops**0.02
    score[5] *= 0.8  # a run that beats nothing must not count
    fit = fit_power(_data(score, flops, np.ones(20)), 0, 0)
    assert fit.gamma == pytest.approx(0.02, rel=1e-9)
    assert fit.coefficient == pytest.approx(0.3, rel=1e-6)
    assert not fit.records[5] and fit.records.sum() == 19


def test_line_agrees_with_weighted_polyfit():
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(size=15), rng.normal(size=15), rng.uniform(0.5, 2, 15)
    line = fit_line(x, y, weights)
    assert [line.slope, line.intercept] == pytest.approx(np.polyfit(x, y, 1, w=np.sqrt(weights)))
    assert 0 <= line.r2 <= 1 and line.slope_se > 0


def test_binomial_variance_is_never_zero():
    assert binomial_variance(np.array([0.0, 0.5, 1.0]), np.full(3, 100.0)) == pytest.approx(
        [2 / 104 * 102 / 104 / 100, 0.0025, 2 / 104 * 102 / 104 / 100]
    )


def test_forecast_comparison_prefers_the_form_that_made_the_data(runs):
    flops, loss = runs
    saturating = 0.5 + 0.4 / (1 + np.exp(6 * (loss - 2.3)))
    errors = held_out_errors_by_form({"blimp": _data(saturating, flops, loss)}, 1.0)["blimp"]
    # Along the best split the curve in compute fits too; chance, mean, power law and line do not.
    others = [error for form, error in errors.items() if not form.startswith("curve_")]
    assert (
        errors["curve_loss"] < 0.005 and max(errors["curve_loss"], errors["curve_compute"]) < min(others) / 2
    )


def test_emergence_is_where_the_curve_exceeds_chance_by_the_margin(runs, truth):
    flops, loss = runs
    rng = np.random.default_rng(0)
    score = rng.binomial(int(ITEMS), 0.5 + 0.5 / (1 + np.exp(9 * (loss - 2.0)))) / ITEMS
    fit = fit_one(_data(score, flops, loss), truth[None], 200)
    emergence = fit.emergence
    assert emergence.margin == pytest.approx(1.96 * np.sqrt(0.25 / ITEMS), rel=1e-3)
    assert -fit.by_loss.curves.centre_at(0.5 + emergence.margin) == pytest.approx(
        float(best_loss(truth, emergence.flops)), rel=1e-6
    )
    assert "expected above chance" in emergence.message
    assert emergence.flops < flops[0] and emergence.message.endswith("below the runs' compute")


def test_noise_does_not_emerge(runs, truth):
    flops, loss = runs
    score = np.random.default_rng(0).binomial(500, 0.5, 24) / 500
    emergence = fit_one(_data(score, flops, loss, 500.0), truth[None], 200).emergence
    assert emergence.flops is None and emergence.message.startswith("the law cannot say")


def test_loss_below_the_irreducible_loss_is_never_reached(runs, truth):
    """A score whose curve exceeds chance only below E: the law expects it never."""
    flops, loss = runs
    score = 0.5 + 0.5 / (1 + np.exp(25 * (loss - 1.45)))
    score[-1] += 0.006
    score += 0.0005 * np.arange(24)
    raised = truth.copy()
    raised[2] = np.log(loss.min())  # E at the loss of the best run
    fit = fit_one(_data(score, flops, loss, 2000.0), raised[None], 100)
    assert fit.by_loss is not None and fit.line.slope + 1.96 * fit.line.slope_se < 0
    assert fit.emergence.flops is None
    assert fit.emergence.message.startswith("the law expects it never")


def test_efficiency_is_the_ratio_of_exponents_with_its_meaning(runs, truth):
    flops, loss = runs
    fitted = {
        name: {"blimp": fit_one(_data(k * flops**gamma, flops, loss), truth[None], 400)}
        for name, k, gamma in (("text", 0.04, 0.066), ("speech", 0.24, 0.021))
    }
    found = compare_efficiency("text", "speech", fitted)["blimp"]
    assert found.ratio == pytest.approx(0.066 / 0.021, rel=1e-6)
    low, high = found.interval95
    assert low < found.ratio < high
    assert "10^3.14 step" in found.message and "not a fixed multiple" in found.message
    assert found.crossing.score == pytest.approx(0.04 * 1e21**0.066)


def test_goal_above_the_ceiling_is_never_reached(runs, truth):
    flops, loss = runs
    low = 0.5 + 0.1 / (1 + np.exp(-2 * (np.log(flops) - 43)))
    fitted = {
        "text": {"blimp": fit_one(_data(0.04 * flops**0.066, flops, loss), truth[None], 100)},
        "speech": {"blimp": fit_one(_data(low, flops, loss), truth[None], 100)},
    }
    crossing = compare_efficiency("text", "speech", fitted)["blimp"].crossing
    assert crossing.flops is None and "never reaches" in crossing.message


def test_best_score_at_chance_has_no_crossing(runs, truth):
    flops, loss = runs
    fitted = {
        name: {"blimp": fit_one(_data(k * flops**gamma, flops, loss), truth[None], 100)}
        for name, k, gamma in (("weak", 0.04, 0.05), ("strong", 0.24, 0.021))
    }
    assert (0.04 * flops**0.05).max() < 0.5
    crossing = compare_efficiency("weak", "strong", fitted)["blimp"].crossing
    assert "is not above chance" in crossing.missing


def test_interval_of_the_ratio_covers_the_truth_in_simulated_ladders():
    """Ladders of six budgets and four sizes, with the noise of their items alone: 38 of 40 intervals are expected."""
    exponents = {"text": 0.045, "speech": 0.02}
    held = 0
    for trial in range(40):
        fitted = {}
        for number, (name, gamma) in enumerate(exponents.items()):
            rng = np.random.default_rng([trial, number])
            flops = np.outer(np.geomspace(1e10, 1e13, 6), [1.0, 1.5, 2.2, 3.0]).ravel()
            share = 0.51 * (flops / 1e10) ** gamma
            score = rng.binomial(2000, share) / 2000
            data = ScoreData.of(flops, np.full(24, np.nan), score, np.full(24, 2000.0), 0.5)
            fitted[name] = {"blimp": fit_one(data, None, 100)}
        low, high = compare_efficiency("text", "speech", fitted)["blimp"].interval95
        held += low <= exponents["text"] / exponents["speech"] <= high
    assert held >= 36
