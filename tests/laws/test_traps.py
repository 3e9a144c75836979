"""Known silent faults of fits of scaling laws: each is avoided here, or reported."""

import numpy as np
import pytest

from speechscale.cli.format_law import format_law
from speechscale.errors import UserError
from speechscale.laws import draw_laws, fit_single_epoch, fit_table, percentile_interval
from speechscale.laws.checks import resolution
from speechscale.laws.forms import log_loss, to_theta, to_values
from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import NewtonSettings, minimise
from speechscale.laws.starts import published_starts
from speechscale.records.law import write_law


def test_a_tiny_objective_is_still_minimised(make_runs):
    """SciPy's L-BFGS stops at the start when its objective is a mean of 1e-6; here units of the objective are moot."""
    params, tokens, loss = make_runs(40, noise=1e-4)
    plain = fit_single_epoch(params, tokens, loss, delta=1e-4)
    mean = fit_single_epoch(params, tokens, loss, delta=1e-4, weights=np.full(40, 1e-12 / 40))
    assert mean.params == pytest.approx(plain.params, rel=1e-4)


def test_starts_with_both_exponents_zero_do_not_yield_nan(make_runs):
    ladder = Ladder.of(*make_runs(40, noise=0.003))
    starts = published_starts()
    zeros = starts[(starts[:, 3] == 0) & (starts[:, 4] == 0)]
    found = minimise(
        ladder.objective(0.03),
        ladder.centring.centred(zeros),
        ladder.log_loss,
        ladder.weights,
        settings=NewtonSettings(max_steps=40),
    )
    assert np.isfinite(found.value).all() and np.isfinite(found.theta).all()


def test_stalled_starts_are_counted_and_ignored(make_runs):
    """Most published starts begin where A/N^alpha or B/D^beta is nothing, with a gradient of nothing."""
    fit = fit_single_epoch(*make_runs(40, noise=0.003), exhaustive=True)
    assert fit.convergence.stalled > 2000
    assert fit.convergence.agreeing >= 10
    assert fit.converged


def test_delta_below_the_resolution_of_the_losses_is_reported(make_runs):
    params, tokens, loss = make_runs(40, noise=0.003)
    table = {"params": params, "tokens": tokens, "loss": np.round(loss, 2)}
    checks = fit_table(table, delta=1e-4, bootstrap=100).series["runs"].checks
    assert any(c.check == "delta below resolution" for c in checks)
    fine = fit_table({**table, "loss": loss}, delta=1e-4, bootstrap=100).series["runs"].checks
    assert not any(c.check == "delta below resolution" for c in fine)


def test_resolution_of_losses():
    assert resolution(np.array([2.01, 2.5, 3.14])) == pytest.approx(0.005 / 2.5)
    assert resolution(np.array([2.0123456789, 2.5])) == 0.0


def test_six_n_d_does_not_overflow(truth):
    """6 N D of 1e11 parameters and 1e13 tokens is 6e24; int64 ends at 9.2e18."""
    rng = np.random.default_rng(0)
    params = (10 ** rng.uniform(9, 11, 30)).astype(np.int64)
    tokens = (10 ** rng.uniform(11, 13, 30)).astype(np.int64)
    loss = 1.73 + 13.9 / params**0.25 + 39.8 / tokens**0.24
    law = fit_table({"params": params, "tokens": tokens, "loss": loss}, bootstrap=100)
    low, high = law.series["runs"].single_epoch.range.flops
    assert 0 < low < high == pytest.approx(float(np.max(6.0 * params.astype(float) * tokens.astype(float))))


def test_vanished_term_is_reported():
    """Losses that do not depend on N."""
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 9, 40), 10 ** rng.uniform(8, 11, 40)
    loss = (1.7 + 40 / tokens**0.24) * np.exp(0.003 * rng.standard_normal(40))
    checks = (
        fit_table({"params": params, "tokens": tokens, "loss": loss}, bootstrap=200).series["runs"].checks
    )
    assert {"vanished", "not identified"} & {c.check for c in checks}


def test_vanished_term_may_reappear_in_the_draws():
    """At E = 0 the gradient by ln E is nothing: draws that began there would all agree on E = 0."""
    truth = to_theta({"E": 0.15, "A": 8.0, "B": 60.0, "alpha": 0.25, "beta": 0.35})
    params = np.repeat(np.geomspace(3e4, 1e6, 6), 5)
    tokens = np.tile([1e5, 2.5e5, 6e5, 1e6, 4e6], 6)
    noise = 0.01 * np.random.default_rng(8).standard_normal(30)
    fit = fit_single_epoch(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens)) + noise))
    assert fit.params["E"] < 1e-4 and fit.convergence.agreeing > 50 and fit.converged
    low, high = percentile_interval(to_values(draw_laws(fit, 300, seed=8))[:, 2])
    assert low < 1e-4 and high > 0.1


def test_equal_losses_are_refused(make_runs):
    params, tokens, _ = make_runs(10)
    with pytest.raises(UserError, match="every loss is 2, so no law"):
        fit_single_epoch(params, tokens, np.full(10, 2.0))


def test_table_without_information_still_makes_a_file(make_runs, tmp_path):
    """Losses all alike, scores all zero: words and nulls, where JSON has no not-a-number."""
    params, tokens, _ = make_runs(20)
    table = {
        "N": params,
        "D": tokens,
        "L": np.full(20, 2.0),
        "task": np.zeros(20),
        "task_chance": np.zeros(20),
    }
    law = fit_table(table, bootstrap=100)
    write_law(law, tmp_path / "law.json")
    assert "every loss is 2" in law.series["runs"].single_epoch.missing
    assert law.series["runs"].downstream["task"].coefficient is None
    assert "task" in format_law(law)
