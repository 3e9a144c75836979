import numpy as np
import pytest

from speechscale.laws import fit_table
from speechscale.laws.forms import log_loss
from speechscale.laws.isoflop import draw_minima, fit_isoflop, law_minima
from speechscale.laws.ladder import Ladder

BUDGETS = np.geomspace(1e18, 1e21, 4)


def _slices(truth, reach: float, budgets: np.ndarray = BUDGETS) -> Ladder:
    """Nine sizes a budget, up to `reach` in ln N around the best split."""
    from speechscale.laws.allocation import log_optimum

    params = np.concatenate(
        [np.exp(log_optimum(truth, c)[0] + np.linspace(-reach, reach, 9)) for c in budgets]
    )
    tokens = np.repeat(budgets, 9) / 6 / params
    return Ladder.of(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens))))


def test_bracketed_minima_recover_the_exponents_of_the_law(truth):
    found = fit_isoflop(_slices(truth, 0.8))
    assert all(m.refused is None for m in found.minima) and len(found.minima) == 4
    assert found.split["a"] == pytest.approx(0.24 / 0.49, abs=0.01)
    assert found.split["a"] + found.split["b"] == pytest.approx(1)


def test_minimum_at_the_edge_is_refused(truth):
    whole = _slices(truth, 1.0)
    half = whole.take(np.tile(np.arange(9) >= 5, 4))  # every size above the best one
    found = fit_isoflop(half)
    assert all("not bracketed: the best loss is at the smallest size" in m.refused for m in found.minima)
    assert found.split is None and "0 of 4 budgets" in found.missing


def test_budgets_that_runs_do_not_share_are_interpolated(truth):
    sizes = np.geomspace(1e7, 3e9, 9)
    params = np.repeat(sizes, 8)
    tokens = np.tile(np.geomspace(1e8, 1e13, 8), 9)
    ladder = Ladder.of(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens))))
    found = fit_isoflop(ladder)
    assert found.split["a"] == pytest.approx(0.24 / 0.49, abs=0.15)


def test_intervals_of_the_exponent_cover_the_truth(truth):
    """Ladders with noise of 0.2 %: the interval of each holds the exponent of the noiseless minima."""
    clean = _slices(truth, 1.2)
    exponent = fit_isoflop(clean).split["a"]
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        noisy = Ladder.of(
            clean.params, clean.tokens, clean.loss * np.exp(0.002 * rng.standard_normal(len(clean)))
        )
        low, high = np.nanquantile(draw_minima(noisy, None, 0.002, 100, seed).a, [0.025, 0.975])
        held += low <= exponent <= high
    assert held >= 34


def test_draw_without_two_minima_is_nan(truth):
    half = _slices(truth, 1.0).take(np.tile(np.arange(9) >= 5, 4))
    assert np.isnan(draw_minima(half, None, 1e-6, 5, seed=0).a).all()


def _with_overhead(truth, budgets: np.ndarray = BUDGETS) -> tuple[Ladder, np.ndarray]:
    """Runs whose FLOPs count half as much again in small models (embeddings), at shared budgets of these FLOPs."""
    params = np.tile(np.geomspace(2e7, 2e9, 9), len(budgets))
    overhead = 1 + 0.5 * (2e7 / params) ** 0.3
    flops = np.repeat(budgets, 9)
    tokens = flops / 6 / params / overhead
    return Ladder.of(params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens)))), flops


def test_runs_are_grouped_by_their_flops_and_not_by_6nd(truth):
    ladder, flops = _with_overhead(truth, np.geomspace(3e19, 3e20, 3))
    found = fit_isoflop(ladder, flops)
    assert [one.flops for one in found.slices] == pytest.approx(np.unique(flops))
    assert [one.sizes for one in found.slices] == [9, 9, 9]
    # By 6 N D no budget is shared: sizes are interpolated to budgets between them.
    assert len(fit_isoflop(ladder).slices) == 7


def test_tokens_of_a_minimum_are_those_of_the_runs_beside_it(truth):
    ladder, flops = _with_overhead(truth, np.geomspace(3e19, 3e20, 3))
    for minimum in fit_isoflop(ladder, flops).minima:
        assert minimum.refused is None
        overhead = 1 + 0.5 * (2e7 / minimum.params) ** 0.3
        assert minimum.tokens == pytest.approx(minimum.flops / 6 / minimum.params / overhead, rel=0.01)


def test_law_minima_are_those_of_its_own_losses(truth):
    """The noiseless ladder comes from the law, so both parabolas are the same."""
    found = fit_isoflop(_slices(truth, 1.2))
    log_losses = [log_loss(truth[None], one.log_n, one.log_d) for one in found.slices]
    rows = law_minima(found.slices, log_losses)
    assert np.exp(rows[0]) == pytest.approx([minimum.params for minimum in found.minima])


def _fitted(params, tokens, loss):
    table = {"params": params, "tokens": tokens, "loss": loss}
    return fit_table(table, bootstrap=100, laws=("single_epoch", "isoflop")).series["runs"]


def test_additive_ladder_agrees_with_its_isoflop_minima(truth):
    ladder = _slices(truth, 1.2)
    noise = 0.002 * np.random.default_rng(3).standard_normal(len(ladder))
    law = _fitted(ladder.params, ladder.tokens, ladder.loss * np.exp(noise))
    assert not [check for check in law.checks if check.check == "isoflop disagrees"]
    assert all(budget.by_law and budget.interval95 for budget in law.isoflop.budgets)
    low, high = law.isoflop.by_law.interval95
    assert low < law.isoflop.params.a < high


def test_ladder_with_other_minima_than_any_smooth_law_is_reported():
    """The best size swings by a factor of 6 around a power law, from one budget to the next."""
    budgets = np.geomspace(1e18, 1e21, 6)
    best = 0.5 * np.log(budgets / 6) - 1 + 0.9 * np.array([1, -1, 1, -1, 1, -1])
    log_n = (best[:, None] + np.linspace(-1.2, 1.2, 9)).ravel()
    flops = np.repeat(budgets, 9)
    loss = 2 + 3 * (flops / 1e18) ** -0.08 + 0.1 * (log_n - np.repeat(best, 9)) ** 2
    noise = 0.001 * np.random.default_rng(0).standard_normal(len(loss))
    law = _fitted(np.exp(log_n), flops / 6 / np.exp(log_n), loss * np.exp(noise))
    (check,) = [check for check in law.checks if check.check == "isoflop disagrees"]
    assert check.level == "warning" and "FLOPs is" in check.message and "against" in check.message
