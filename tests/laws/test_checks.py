import numpy as np
import polars as pl
import pytest

from speechscale.laws import draw_laws, fit_single_epoch
from speechscale.laws.allocation import best_loss, log_optimum
from speechscale.laws.checks import check_law, check_table, flat_range
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import log_loss
from speechscale.laws.influence import influence
from speechscale.records.runs_table import canonical_table


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


def _table(**columns) -> pl.DataFrame:
    base = {"run": ["a", "b"], "params": [1e6, 2e6], "tokens": [1e8, 1e8], "flops": [6e14, 1.2e15]}
    return pl.DataFrame({**base, **columns})


def test_mixed_embedding_counts_are_reported():
    assert "mix both counts" in check_table(_table(params_total=[1e6, 2.5e6]))[0].message
    assert "run 'b' has more non-embedding" in check_table(_table(params_total=[2e6, 1e6]))[0].message
    assert check_table(_table(params_total=[1.1e6, 2.5e6])) == []


def test_long_warmup_is_reported():
    found = check_table(_table(steps=[400.0, 10000.0], warmup_steps=[100.0, 100.0]))
    assert found[0].check == "warm-up" and found[0].runs == ["a"]


def test_other_flops_convention_is_reported():
    assert "times 6 N D" in check_table(_table(flops=[9e14, 1.2e15]))[0].message


def test_mixed_recipes_are_reported():
    runs = pl.DataFrame(
        {
            "run": ["a", "b", "c"],
            "params": [1e6, 2e6, 3e6],
            "tokens": [1e8, 2e8, 3e8],
            "loss": [3.0, 2.9, 2.8],
            "preset": ["paper", "paper", "modern"],
            "schedule": ["cosine", "cosine", None],
        }
    )
    found = {check.check: check.message for check in check_table(canonical_table(runs))}
    assert "2 of preset 'paper', 1 of preset 'modern'" in found["mixed presets"]
    assert "2 of schedule 'cosine', 1 of schedule 'not recorded'" in found["mixed schedules"]
    alike = runs.with_columns(preset=pl.lit("paper"), schedule=pl.lit("wsd"))
    assert not check_table(canonical_table(alike))
