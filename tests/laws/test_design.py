import numpy as np
import pytest

from speechscale.errors import UserError
from speechscale.laws import draw_laws, fit_single_epoch
from speechscale.laws.allocation import best_loss
from speechscale.laws.design import choose_runs
from speechscale.laws.draws import LawDraws
from speechscale.laws.forms import log_loss


@pytest.fixture(scope="module")
def ladder_fit():
    from speechscale.laws.forms import to_theta

    rng = np.random.default_rng(0)
    truth = to_theta({"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24})
    params = np.repeat([2e7, 8e7, 3e8], 5)
    tokens = params * np.tile([2.0, 5.0, 10.0, 20.0, 40.0], 3)
    loss = np.exp(log_loss(truth, np.log(params), np.log(tokens)) + 0.002 * rng.standard_normal(15))
    return truth, fit_single_epoch(params, tokens, loss)


@pytest.fixture
def drawn(ladder_fit):
    _, fit = ladder_fit
    theta = np.column_stack(
        [
            np.concatenate([fit.theta[None], draw_laws(fit, 800, 0)]),
            np.zeros((801, 2)),
            np.full((801, 2), np.nan),
        ]
    )
    return LawDraws(
        "speech",
        theta,
        1,
        {},
        {"params": 2e7, "tokens": 4e7},
        {"flops": float(fit.ladder.flops.max())},
        np.full(801, fit.noise),
    )


def test_chosen_runs_fit_the_budget_and_each_reduces_the_error(drawn):
    design = choose_runs(drawn, 4, 2e19)
    assert len(design.chosen) == 4
    assert sum(c.flops for c in design.chosen) <= 2e19 * 1.001
    assert min(c.params for c in design.chosen) >= 2e7 / 3
    assert design.before > design.after[0] > design.after[1] > design.after[-1] > 0


def test_chosen_runs_reduce_the_error_more_than_equal_runs(drawn, ladder_fit):
    """Refit with the chosen runs, and with as many of the study's ratio: the forecast must vary less."""
    truth, fit = ladder_fit
    design = choose_runs(drawn, 3, 2e18)
    chosen = np.array([(c.params, c.tokens) for c in design.chosen])
    plain = np.repeat([[np.sqrt(2e18 / 18 / 20), 20 * np.sqrt(2e18 / 18 / 20)]], 3, axis=0)
    spreads = []
    for extra in (chosen, plain):
        params, tokens = (
            np.append(column, extra[:, k]) for k, column in enumerate((fit.ladder.params, fit.ladder.tokens))
        )
        forecasts = []
        for seed in range(24):
            noise = 0.002 * np.random.default_rng(seed).standard_normal(len(params))
            again = fit_single_epoch(
                params, tokens, np.exp(log_loss(truth, np.log(params), np.log(tokens)) + noise)
            )
            forecasts.append(np.log(best_loss(again.theta, design.forecast_flops)))
        spreads.append(np.std(forecasts))
    assert spreads[0] < spreads[1]


def test_law_without_draws_is_refused():
    with pytest.raises(UserError, match="has 0 draws"):
        choose_runs(LawDraws.from_publication("speech"), 2, 1e20)


def test_impossible_requests_are_refused(drawn):
    with pytest.raises(UserError, match="at least one run"):
        choose_runs(drawn, 0, 1e20)
    with pytest.raises(UserError, match="a forecast at 0 FLOPs"):
        choose_runs(drawn, 2, 1e20, forecast_flops=0.0)
