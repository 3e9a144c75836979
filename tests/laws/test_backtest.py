import numpy as np
import pytest

from speechscale.laws.backtest import (
    FACTORS,
    UNTESTED_SCALE,
    BacktestSplit,
    backtest,
    split_rows,
    widening,
)
from speechscale.laws.family import MEMBERS
from speechscale.laws.forecast_section import backtest_table, forecast, split_result
from speechscale.laws.forms import log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.options import fit_options
from speechscale.laws.pool import fit_pool
from speechscale.records.forecast_sections import Backtest, BacktestSplitResult
from speechscale.records.law_sections import Missing
from speechscale.records.runs_table import canonical_table

Z = 1.959963984540054  # 97.5 % quantile of the standard normal


def backtest_splits(ladder: Ladder, names: list[str], factor: float) -> list[BacktestSplitResult]:
    """The splits that `speechscale backtest` reports of these runs."""
    table = canonical_table(
        {"run": names, "params": ladder.params, "tokens": ladder.tokens, "loss": ladder.loss}
    )
    found = backtest_table(table, (factor,), None, 0)["runs"]
    assert isinstance(found, Backtest)
    return found.splits


def of_speech(count: int, noise: float, seed: int) -> Ladder:
    """Runs from the additive law of speech, over four orders of magnitude of compute."""
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7.0, 9.5, count)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
    loss = (1.73 + 13.9 / params**0.25 + 39.8 / tokens**0.24) * np.exp(noise * rng.standard_normal(count))
    return Ladder.of(params, tokens, loss)


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    return of_speech(30, noise=0.003, seed=0)


@pytest.fixture(scope="module")
def split(ladder) -> BacktestSplit:
    (found,) = backtest(ladder, seed=3, factors=(10.0,), draws=100)
    return found


def with_loss(ladder: Ladder, rows: np.ndarray, factor: float | np.ndarray) -> Ladder:
    loss = ladder.loss.copy()
    loss[rows] *= factor
    return Ladder(ladder.params, ladder.tokens, loss, ladder.weights)


def same(one: BacktestSplit, other: BacktestSplit) -> bool:
    """Whether two splits forecast the same to the last bit."""
    members = one.members.keys() == other.members.keys() and all(
        np.array_equal(one.members[name], other.members[name]) for name in one.members
    )
    return (
        members
        and np.array_equal(one.centre, other.centre)
        and np.array_equal(one.draws, other.draws)
        and np.array_equal(one.distance, other.distance)
    )


# What a backtest may see


@pytest.mark.parametrize("factor", [1.5, None])
def test_forecasts_do_not_depend_on_the_losses_that_they_forecast(ladder, split, factor):
    rng = np.random.default_rng(0)
    by = rng.uniform(0.1, 10, len(split.dearer)) if factor is None else factor
    changed = with_loss(ladder, split.dearer, by)
    (again,) = backtest(changed, seed=3, factors=(10.0,), draws=100)
    assert same(split, again)
    assert not np.allclose(split.deviations(changed.log_loss), split.deviations(ladder.log_loss))


def test_forecasts_do_depend_on_a_loss_that_they_are_fitted_to(ladder, split):
    """So the comparison above would notice a loss that was seen."""
    (again,) = backtest(with_loss(ladder, split.cheaper[-1:], 1.001), seed=3, factors=(10.0,), draws=100)
    assert not np.array_equal(split.centre, again.centre)
    assert not np.array_equal(split.draws, again.draws)


def test_weights_of_dearer_runs_are_not_seen(ladder, split):
    weights = ladder.weights.copy()
    weights[split.dearer] = 50.0
    weighted = Ladder(ladder.params, ladder.tokens, ladder.loss, weights)
    (again,) = backtest(weighted, seed=3, factors=(10.0,), draws=100)
    assert same(split, again)


def test_forecasts_are_those_of_a_pool_fitted_to_the_cheaper_runs(ladder, split):
    pool = fit_pool(ladder.take(split.cheaper), 100, np.random.default_rng(0))
    at = ladder.log_n[split.dearer], ladder.log_d[split.dearer]
    assert list(split.members) == [fit.name for fit in pool.fits]
    for fit in pool.fits:
        assert split.members[fit.name] == pytest.approx(log_loss(fit.theta, *at), rel=1e-12)
    assert split.centre == pytest.approx(np.median(list(split.members.values()), axis=0), rel=1e-14)
    assert split.draws.shape == (102, len(split.dearer))  # 34 of each of three members
    largest = ladder.flops[split.cheaper].max()
    assert split.distance == pytest.approx(ladder.flops[split.dearer] / largest)
    assert (split.distance > 1).all()


def test_a_split_does_not_depend_on_the_other_splits(ladder, split):
    splits = backtest(ladder, seed=3, factors=(3.0, 10.0), draws=100)
    assert [found.factor for found in splits] == [3.0, 10.0]
    assert same(splits[1], split)


def test_another_seed_gives_other_draws_alone(ladder, split):
    (other,) = backtest(ladder, seed=4, factors=(10.0,), draws=100)
    assert np.array_equal(split.centre, other.centre) and not np.array_equal(split.draws, other.draws)


def test_widening_within_a_split_sees_no_dearer_run():
    """The printed intervals too: their scale comes from backtests of the cheaper runs among themselves."""
    ladder = of_speech(18, noise=0.003, seed=1)
    names = [f"run {k}" for k in range(18)]
    cheaper, dearer = split_rows(ladder, 30.0)
    surprising = cheaper[np.argsort(ladder.flops[cheaper])[-2:]]
    ladder = with_loss(ladder, surprising, 1.1)
    (before,) = backtest_splits(ladder, names, 30.0)
    (after,) = backtest_splits(with_loss(ladder, dearer, 1.3), names, 30.0)
    assert before.runs.run == [names[row] for row in dearer]
    assert after.scale == before.scale > UNTESTED_SCALE
    for column in ("run", "distance", "forecast", "low", "high"):
        assert getattr(after.runs, column) == getattr(before.runs, column)
    assert after.pool.bias == pytest.approx(before.pool.bias - np.log(1.3))


# Which runs a split fits


def with_flops(units: list[float], params: list[float] | None = None) -> Ladder:
    """Runs of 6e18 FLOPs times the given units; sizes in turn when not given."""
    sizes = np.array(params if params is not None else [1e7, 2e7, 4e7, 8e7] * len(units), float)[: len(units)]
    return Ladder.of(sizes, np.array(units) * 1e18 / sizes, np.linspace(3, 2, len(units)))


EIGHT = [1, 2, 3, 4, 5, 6, 7, 8]


def test_rows_of_a_split_are_those_up_to_a_fraction_of_the_largest_compute():
    ladder = with_flops([100, *EIGHT, 10, 11, 40])
    cheaper, dearer = split_rows(ladder, 10.0)
    assert cheaper.tolist() == list(range(1, 10))  # a run at C_max/factor itself is cheaper
    assert dearer.tolist() == [0, 10, 11]
    cheaper, dearer = split_rows(ladder, 2.5)
    assert cheaper.tolist() == list(range(1, 12)) and dearer.tolist() == [0]


def test_a_split_needs_seven_cheaper_runs():
    assert split_rows(with_flops([*EIGHT[:7], 100]), 10.0)[0].tolist() == list(range(7))
    assert split_rows(with_flops([*EIGHT[:6], 100]), 10.0) is None


def test_a_split_needs_three_sizes_and_three_token_counts():
    two = [1e7, 2e7] * 4 + [4e7]
    three = [1e7, 2e7, 3e7, *two[3:]]
    assert split_rows(with_flops([*EIGHT, 100], two), 10.0) is None
    assert split_rows(with_flops([*EIGHT, 100], three), 10.0)[1].tolist() == [8]
    tokens = np.array([1e9, 2e9] * 4 + [1e12])
    assert split_rows(Ladder.of(np.linspace(1e7, 9e7, 9), tokens, np.linspace(3, 2, 9)), 10.0) is None
    tokens[0] = 3e9
    assert split_rows(Ladder.of(np.linspace(1e7, 9e7, 9), tokens, np.linspace(3, 2, 9)), 10.0) is not None


def test_a_split_needs_a_dearer_run():
    assert split_rows(with_flops(EIGHT), 1.0) is None


def test_splits_that_fit_the_same_runs_are_made_once():
    near, far = of_speech(7, noise=0.003, seed=0), 1e3
    params = np.append(near.params, near.params.max())
    tokens = np.append(near.tokens, near.tokens.max() * far)
    ladder = Ladder.of(params, tokens, np.append(near.loss, 1.8))
    splits = backtest(ladder, seed=0, factors=FACTORS, draws=20)
    assert [split.factor for split in splits] == [3.0]
    assert splits[0].cheaper.tolist() == list(range(7))


def test_a_ladder_without_splits_is_not_backtested():
    ladder = of_speech(7, noise=0.003, seed=0)
    assert backtest(ladder, seed=0) == []
    section = forecast(ladder, list("abcdefg"), fit_options(bootstrap=100))
    assert isinstance(section.backtest, Missing) and "not backtested" in section.backtest.missing
    assert section.scale == UNTESTED_SCALE > 1


# How far forecasts were off


def constructed(centre: list[float], high: float, low: float) -> BacktestSplit:
    """Draws whose 95 % interval reaches `high` above and `low` below each centre."""
    side = np.linspace(-1, 1, 4001)
    side = np.where(side > 0, high * side, low * side) / 0.95
    draws = np.array(centre) + side[:, None]
    count = len(centre)
    return BacktestSplit(
        10.0, np.arange(7), np.arange(7, 7 + count), np.full(count, 12.0), {}, np.array(centre), draws
    )


def losses_off(split: BacktestSplit, errors: list[float]) -> np.ndarray:
    return np.concatenate([np.zeros(7), split.centre + np.array(errors)])


def test_interval_is_of_the_draws_and_widens_around_the_centre():
    split = constructed([0.5, 1.0], high=0.2, low=0.1)
    assert np.array(split.interval(0.95)) == pytest.approx(np.array([[0.4, 0.9], [0.7, 1.2]]))
    assert np.array(split.interval(0.95, scale=3.0)) == pytest.approx(np.array([[0.2, 0.7], [1.1, 1.6]]))
    half = 0.5 / 0.95
    assert np.array(split.interval(0.5))[:, 0] == pytest.approx([0.5 - 0.1 * half, 0.5 + 0.2 * half])


def test_deviations_are_in_units_of_the_interval_on_the_side_of_the_error():
    split = constructed([0.5, 1.0, 1.5], high=0.2, low=0.1)
    found = split.deviations(losses_off(split, [0.2, -0.2, 0.0]))
    assert found == pytest.approx([Z, -2 * Z, 0.0], rel=1e-9, abs=1e-9)


def test_widening_is_the_rms_deviation_of_splits_and_of_what_was_known_before():
    one, two = constructed([0.5], high=0.1, low=0.1), constructed([0.6, 0.7, 0.8, 0.9], high=0.1, low=0.1)
    off = losses_off(two, [0.3, 0.3, 0.3, 0.3])
    off[7] = one.centre[0] - 0.1  # 1 interval off in the first split
    expected = [Z**2, np.mean([((off[7 + k] - two.centre[k]) * 10 * Z) ** 2 for k in range(4)])]
    # A split of five runs counts in full, one of fewer by its share of five; 1.5 counts like a quarter of a split.
    before = 1.5**2 / 4
    assert widening([one], off) == pytest.approx(np.sqrt((before + expected[0] / 5) / 0.45), rel=1e-9)
    assert widening([two], off) == pytest.approx(np.sqrt((before + 0.8 * expected[1]) / 1.05), rel=1e-9)
    both = (before + expected[0] / 5 + 0.8 * expected[1]) / 1.25
    assert widening([one, two], off) == pytest.approx(np.sqrt(both), rel=1e-9)


def test_good_forecasts_do_not_narrow_intervals():
    split = constructed([0.5, 0.6, 0.7, 0.8, 0.9], high=0.1, low=0.1)
    off = losses_off(split, [0.01, -0.02, 0.01, 0.0, 0.01])
    assert widening([split] * 3, off) == 1.0


def test_without_splits_the_widening_is_that_of_untested_laws():
    assert widening([], np.zeros(9)) == UNTESTED_SCALE


def test_result_of_a_split_by_hand():
    split = constructed([0.5, 1.0, 1.5, 2.0], high=0.2, low=0.1)
    losses = losses_off(split, [0.01, 0.16, -0.09, -0.25])
    ladder = Ladder.of(np.full(11, 1e7), np.full(11, 1e9), np.exp(losses))
    names = [f"run {k}" for k in range(11)]
    found = split_result(split, ladder, names, scale=1.0)
    assert (found.fitted, found.forecast, found.factor) == (7, 4, 10.0)
    assert found.pool.bias == pytest.approx(np.mean([-0.01, -0.16, 0.09, 0.25]))
    assert found.pool.rms == pytest.approx(np.sqrt(np.mean(np.square([0.01, 0.16, 0.09, 0.25]))))
    # Half the draws reach 0.105 above and 0.053 below, 80 % of them 0.168 and 0.084.
    assert (found.pool.inside50, found.pool.inside80, found.pool.inside95) == (0.25, 0.5, 0.75)
    assert found.runs.run == names[7:]
    assert found.runs.forecast == pytest.approx(np.exp(split.centre), rel=1e-4)
    assert found.runs.low == pytest.approx(np.exp(split.centre - 0.1), rel=1e-4)
    assert found.runs.high == pytest.approx(np.exp(split.centre + 0.2), rel=1e-4)
    wide = split_result(split, ladder, names, scale=3.0)
    assert wide.pool.inside95 == 1.0
    assert wide.runs.high == pytest.approx(np.exp(split.centre + 0.6), rel=1e-4)


def test_forecast_section_holds_the_splits_and_their_widening(ladder):
    section = forecast(ladder, [f"run {k}" for k in range(30)], fit_options(bootstrap=100))
    assert [split.factor for split in section.backtest.splits] == list(FACTORS)
    for split in section.backtest.splits:
        cheaper, dearer = split_rows(ladder, split.factor)
        assert (split.fitted, split.forecast) == (len(cheaper), len(dearer))
        assert split.runs.run == [f"run {row}" for row in dearer]
        assert split.runs.loss == pytest.approx(ladder.loss[dearer], rel=1e-4)
        errors = np.log(split.runs.forecast) - ladder.log_loss[dearer]
        assert split.pool.rms == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.05)
        inside = (split.runs.low <= ladder.loss[dearer]) & (ladder.loss[dearer] <= split.runs.high)
        assert split.pool.inside95 == pytest.approx(np.mean(inside))
        assert set(split.members) <= set(MEMBERS)
    assert section.scale >= 1


# Do the intervals hold?


@pytest.mark.parametrize(
    "ladders", [range(12), pytest.param(range(12, 40), marks=pytest.mark.slow)], ids=["12", "28 more"]
)
def test_intervals_of_new_runs_hold_the_dearer_runs_of_additive_ladders(ladders):
    """Without any widening: the laws that contain the truth forecast it as often as they promise."""
    inside = []
    for seed in ladders:
        ladder = of_speech(24, noise=0.005, seed=100 + seed)
        (split,) = backtest(ladder, seed, factors=(10.0,), draws=100)
        low, high = split.interval(0.95)
        observed = ladder.log_loss[split.dearer]
        inside.append(np.mean((low <= observed) & (observed <= high)))
    assert np.mean(inside) >= 0.90
