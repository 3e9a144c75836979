import numpy as np
import polars as pl
import pytest

from speechscale.laws import fit_single_epoch, fit_table
from speechscale.laws import repeated_pool as pool
from speechscale.laws.draws import LawDraws
from speechscale.laws.ladder import Ladder
from speechscale.laws.repeated import draw_joint, fit_repeated, log_loss_repeated
from speechscale.laws.repeated_pool import JOINT, PARTS, TWO_STAGES, RepeatedRuns, pooled_parts, split_rows
from speechscale.plan import Constraints, plan_budget
from speechscale.records.law import FitOptions, read_law, write_law

RATES = np.log([12.0, 9.0])


@pytest.fixture
def theta(truth):
    return np.append(truth, RATES)


def _design() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D and unique tokens: 24 runs of one epoch, and 36 of 2 to 32 epochs of 0.3, 1 and 3 billion tokens."""
    sizes = np.array([1e7, 4e7, 1.6e8, 6.4e8])
    single = [(n, n * ratio) for n in sizes for ratio in (5, 10, 20, 40, 80, 160)]
    several = [
        (n, unique * epochs, unique) for unique in (3e8, 1e9, 3e9) for n in sizes for epochs in (2, 8, 32)
    ]
    params, tokens = np.array([(n, d) for n, d in single] + [(n, d) for n, d, _ in several]).T
    return params, tokens, np.concatenate([tokens[:24], [unique for _, _, unique in several]])


def _runs(theta: np.ndarray, noise: float, seed: int = 0) -> RepeatedRuns:
    params, tokens, unique = _design()
    exact = log_loss_repeated(theta[None], np.log(params), np.log(tokens), np.log(unique))[0]
    loss = np.exp(exact + noise * np.random.default_rng(seed).standard_normal(len(exact)))
    return RepeatedRuns(Ladder.of(params, tokens, loss), unique)


def _single_epoch(runs: RepeatedRuns):
    ladder = runs.one_epoch.ladder
    return fit_single_epoch(ladder.params, ladder.tokens, ladder.loss)


def test_joint_draws_cover_a_known_truth(theta):
    """Twenty studies: the 95 % intervals of R_D* and of a forecast at four times the largest compute."""
    held_rate = held_forecast = 0
    at = (np.log([1.2e9]), np.log([1.2e11]), np.log([6e9]))
    expected = log_loss_repeated(theta[None], *at)[0]
    for seed in range(20):
        runs = _runs(theta, 0.003, seed)
        fit = fit_repeated(_single_epoch(runs), runs.ladder, runs.unique, joint=True, profiled=False)
        draws = draw_joint(fit, runs.ladder, runs.unique, 200, np.random.default_rng(seed))
        low, high = np.quantile(draws[:, 5], [0.025, 0.975])
        held_rate += low <= RATES[0] <= high
        low, high = np.quantile(log_loss_repeated(draws, *at), [0.025, 0.975])
        held_forecast += low <= expected <= high
    assert held_rate >= 16 and held_forecast >= 16


def test_both_parts_are_pooled_unless_one_is_clearly_worse():
    """By hand: an error of three times the other's leaves a part out; five free parameters take seven runs."""
    assert pooled_parts(None, 40, 5) == PARTS
    assert pooled_parts({TWO_STAGES: 0.029, JOINT: 0.01}, 40, 5) == PARTS
    assert pooled_parts({TWO_STAGES: 0.03, JOINT: 0.01}, 40, 5) == (JOINT,)
    assert pooled_parts({TWO_STAGES: 0.01, JOINT: 0.03}, 15, 5) == (TWO_STAGES,)
    assert pooled_parts({TWO_STAGES: 0.01, JOINT: 0.03}, 14, 5) == PARTS  # few single-epoch runs
    assert pooled_parts(None, 6, 5) == (JOINT,)
    assert pooled_parts(None, 7, 5) == PARTS


@pytest.mark.parametrize(("by", "factor"), [("compute", 8.0), ("unique_tokens", 3.0)])
def test_splits_fit_small_runs_and_forecast_large_multi_epoch_ones(theta, by, factor):
    runs = _runs(theta, 0.003)
    fitted, forecast = split_rows(runs, by, factor)
    size = runs.ladder.flops if by == "compute" else runs.unique
    assert size[fitted].max() <= size[runs.repeated].max() / factor * (1 + 1e-9) < size[forecast].min()
    assert runs.repeated[forecast].all() and not runs.repeated[fitted].all()


def test_backtest_never_sees_larger_runs(theta, monkeypatch):
    """Other losses of the forecast runs change no forecast of theirs."""
    monkeypatch.setattr(pool, "FACTORS", (3.0,))
    monkeypatch.setattr(pool, "SPLITS", ("unique_tokens",))
    runs = _runs(theta, 0.003)
    (split,) = pool.backtest_repeated(runs, FitOptions())
    loss = runs.ladder.loss.copy()
    loss[split.forecast] *= 5
    spoilt = RepeatedRuns(Ladder.of(runs.ladder.params, runs.ladder.tokens, loss), runs.unique)
    (again,) = pool.backtest_repeated(spoilt, FitOptions())
    for part in PARTS:
        np.testing.assert_array_equal(again.centres[part], split.centres[part])
        np.testing.assert_array_equal(again.draws[part], split.draws[part])


def test_centre_of_two_parts_is_the_mean_of_their_medians():
    law = LawDraws("", np.zeros((6, 9)), 5, {}, {}, {}, None, parts=(4, 1))
    assert law.centre(np.array([[1.0], [2.0], [4.0], [50.0], [7.0], [99.0]])) == pytest.approx([(3 + 7) / 2])


@pytest.fixture(scope="module")
def law_path(tmp_path_factory):
    from speechscale.laws.forms import to_theta

    truth = to_theta({"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24})
    runs = _runs(np.append(truth, RATES), 0.003)
    table = pl.DataFrame(
        {
            "params": runs.ladder.params,
            "tokens": runs.ladder.tokens,
            "unique_tokens": runs.unique,
            "loss": runs.ladder.loss,
        }
    )
    path = tmp_path_factory.mktemp("law") / "law.json"
    write_law(fit_table(table, bootstrap=100, laws=("single_epoch", "repeated")), path)
    return path


def test_law_file_holds_joint_draws_and_the_pool(law_path):
    law = read_law(law_path).series["runs"]
    repeated = law.repeated
    assert len(repeated.joint.draws.R_D) == len(repeated.joint.draws.log_A) == 100
    assert sum(repeated.pool.weights.values()) == pytest.approx(1) and repeated.pool.weights["joint"] > 0
    assert repeated.pool.backtest.rms.keys() == {"two_stages", "joint"} and repeated.pool.scale >= 1
    assert repeated.pool.epochs == 32
    (check,) = [check for check in law.checks if check.check == "repeated data"]
    assert check.message.startswith("forecasts of repeated data")


def test_plan_of_unique_tokens_uses_the_pool_and_names_epochs_beyond_the_runs(law_path):
    law = LawDraws.from_file(read_law(law_path), None)
    repeated = law.with_repeated_data()
    assert sum(repeated.parts) == repeated.points and np.isfinite(repeated.theta).all()
    plan = plan_budget(law, 1e22, Constraints(unique_tokens=1e8))
    assert plan.beyond["epochs"] == pytest.approx(plan.epochs.value / 32, rel=0.01)
    assert plan.loss.interval95[0] < plan.loss.value < plan.loss.interval95[1]


def test_unique_tokens_that_are_not_used_up_change_nothing(law_path):
    law = LawDraws.from_file(read_law(law_path), None)
    once, ample = plan_budget(law, 1e20), plan_budget(law, 1e20, Constraints(unique_tokens=1e15))
    assert ample.loss == once.loss and "epochs" not in ample.beyond
