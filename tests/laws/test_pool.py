import numpy as np
import pytest

from speechscale.laws import fit_table
from speechscale.laws.draws import LawDraws
from speechscale.laws.estimates import estimate, loss_estimate
from speechscale.laws.family import FAMILY_NAMES, LOG_NO_FLOOR, MEMBERS
from speechscale.laws.forms import log_loss, named, to_theta
from speechscale.laws.ladder import Ladder
from speechscale.laws.pool import PooledLaw, fit_pool, widened
from speechscale.records.forecast_sections import ForecastLaw
from speechscale.records.law import read_law, write_law
from speechscale.records.law_sections import Missing
from speechscale.records.seeds import spawn, spawn_seed

LOG_N, LOG_D = np.log([1e8, 1e9, 1e10]), np.log([2e9, 1e10, 2e11])
INSIDE = slice(0, 1)  # which of these three runs is inside the ladder


def table(count: int = 40, noise: float = 0.003) -> dict[str, np.ndarray]:
    """Runs from a law with gamma = 0.5, which keeps all members in the pool."""
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7.0, 9.5, count)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
    exact = 1.2 + (193.0 / params**0.5 + 1584.0 / tokens**0.48) ** 0.5
    return {"params": params, "tokens": tokens, "loss": exact * np.exp(noise * rng.standard_normal(count))}


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    return Ladder.of(**table())


@pytest.fixture(scope="module")
def pool(ladder) -> PooledLaw:
    return fit_pool(ladder, 200, np.random.default_rng(0))


def by_hand(theta: np.ndarray, params: float, tokens: float) -> float:
    log_a, log_b, log_e, alpha, beta, log_gamma, c = theta
    inner = np.exp(log_a - alpha * np.log(params)) + np.exp(
        log_b + c * np.log(params) - beta * np.log(tokens)
    )
    return float(np.log(np.exp(log_e) + inner ** np.exp(log_gamma)))


def test_centre_is_the_median_of_the_members(pool):
    assert [fit.name for fit in pool.fits] == list(MEMBERS)
    forecasts = pool.log_member_forecasts(LOG_N, LOG_D)
    for k, (log_n, log_d) in enumerate(zip(LOG_N, LOG_D, strict=True)):
        alone = {fit.name: by_hand(fit.theta, np.exp(log_n), np.exp(log_d)) for fit in pool.fits}
        assert {name: row[k] for name, row in forecasts.items()} == pytest.approx(alone, rel=1e-11)
        second, third = sorted(alone.values())[1:3]
        assert pool.log_forecast(LOG_N, LOG_D)[k] == pytest.approx((second + third) / 2, rel=1e-11)


@pytest.mark.parametrize(("draws", "share"), [(201, 51), (10, 3)])
def test_every_member_gives_an_equal_part_of_the_draws(ladder, draws, share):
    pool = fit_pool(ladder, draws, np.random.default_rng(0))
    assert [rows.shape for rows in pool.draws] == [(share, 7)] * 4


def test_draws_of_a_member_are_laws_of_that_member(pool):
    for fit, rows in zip(pool.fits, pool.draws, strict=True):
        member = MEMBERS[fit.name]
        assert (rows[:, 2] == LOG_NO_FLOOR).all() == (not member.has_floor)
        assert (rows[:, 5] == 0).all() == (not member.has_gamma)
        assert (rows[:, 6] == 0).all() == (fit.name != "coupled")
        assert (rows[:, 3:5] > 0).all()


def test_members_that_need_more_runs_stay_out(ladder):
    rng = np.random.default_rng(0)
    seven = fit_pool(ladder.take(np.arange(7)), 100, rng)
    assert [fit.name for fit in seven.fits] == ["additive", "power_without_E"]
    assert [len(rows) for rows in seven.draws] == [50, 50]
    assert fit_pool(ladder.take(np.arange(6)), 100, rng) is None


def test_pools_repeat_with_the_seed(ladder, pool):
    again = fit_pool(ladder, 200, np.random.default_rng(0))
    assert np.array_equal(again.points, pool.points)
    assert all(np.array_equal(one, other) for one, other in zip(again.draws, pool.draws, strict=True))


def test_new_runs_vary_by_the_noise_of_a_run_beyond_the_law(pool):
    many = PooledLaw(pool.fits, [np.repeat(rows, 100, axis=0) for rows in pool.draws], [])
    new = many.log_new_runs(LOG_N, LOG_D, np.random.default_rng(1))
    law = np.concatenate([log_loss(rows, LOG_N, LOG_D) for rows in many.draws])
    assert new.shape == law.shape == (20_000, 3)
    for k, fit in enumerate(pool.fits):
        part = slice(5000 * k, 5000 * (k + 1))
        more = new[part].var(axis=0) - law[part].var(axis=0)
        assert more[INSIDE] == pytest.approx(fit.noise**2, rel=0.1)
        noise = (new - law)[part]
        assert noise.std(axis=0) == pytest.approx(fit.noise, rel=0.05)
        assert np.abs(noise.mean(axis=0)).max() < 0.06 * fit.noise
        correlation = np.corrcoef(noise.T)
        assert np.abs(correlation - np.eye(3)).max() < 0.06  # each run has noise of its own


def test_widening_moves_draws_away_from_the_centre():
    draws, centre = np.array([[1.0, 4.0], [3.0, 5.0]]), np.array([2.0, 4.0])
    assert np.array_equal(widened(draws, centre, 3.0), [[-1.0, 4.0], [5.0, 7.0]])
    assert np.array_equal(widened(draws, centre, 1.0), draws)


# From a table of runs through the law file to a forecast


LAWS = {"laws": ["single_epoch"], "bootstrap": 200}


@pytest.fixture(scope="module")
def fitted():
    """The law file of the 40 runs."""
    return fit_table(table(), **LAWS)


def section(law) -> ForecastLaw:
    (series,) = law.series.values()
    return series.forecast


def test_pooled_law_survives_its_file(fitted, tmp_path):
    write_law(fitted, tmp_path / "law.json")
    read = read_law(tmp_path / "law.json")
    assert section(read) == section(fitted)
    before, after = (LawDraws.from_file(law, None) for law in (fitted, read))
    assert np.array_equal(before.theta[:, :7], after.theta[:, :7])
    assert (before.scale, before.backtested, before.points) == (after.scale, after.backtested, after.points)
    assert np.array_equal(before.noise, after.noise)


def test_rows_of_a_pooled_law_are_its_members_and_then_their_draws(fitted):
    law, file = LawDraws.from_file(fitted, None), section(fitted)
    assert list(file.members) == list(MEMBERS)
    assert law.points == 4 and law.draws == 200 and law.theta.shape == (204, 9)
    for k, member in enumerate(file.members.values()):
        assert member.converged and member.weight == 0.25
        for column, name in enumerate(FAMILY_NAMES):
            logarithm = name in ("A", "B", "E", "gamma")
            value = getattr(member.params, name)
            drawn = np.array(getattr(member.draws, name))
            point, part = law.theta[k, column], law.theta[4 + 50 * k : 54 + 50 * k, column]
            if name == "E" and member.formula.startswith("("):
                assert value == 0 and not drawn.any() and point < -500 and (part < -500).all()
            else:
                assert (np.exp(point) if logarithm else point) == pytest.approx(value, rel=1e-12)
                assert (np.exp(part) if logarithm else part) == pytest.approx(drawn, rel=1e-12)
        assert law.noise[k] == member.noise
        assert (law.noise[4 + 50 * k : 54 + 50 * k] == member.noise).all()


def test_file_has_the_pool_that_is_fitted_directly(fitted, ladder):
    """The members to the last digits, and their draws to what five digits of every parameter leave."""
    rows = LawDraws.from_file(fitted, None).log_loss(LOG_N, LOG_D)
    (name,) = fitted.series
    stream = spawn(spawn_seed(fitted.options.seed, name), "pool")
    direct = fit_pool(ladder, 200, np.random.default_rng(stream))
    assert rows[:4] == pytest.approx(log_loss(direct.points, LOG_N, LOG_D), rel=1e-8)
    drawn = log_loss(np.concatenate(direct.draws), LOG_N, LOG_D)
    assert rows[4:] == pytest.approx(drawn, abs=3e-4)
    assert np.sqrt(np.mean((rows[4:] - drawn) ** 2)) < 0.05 * drawn.std(axis=0).min()


def test_centre_of_a_plan_is_the_median_loss_of_the_members(fitted):
    law, members = LawDraws.from_file(fitted, None), section(fitted).members.values()
    losses = []
    for member in members:
        p = member.params
        inner = np.exp(p.log_A) / 1e10**p.alpha + np.exp(p.log_B) * 1e10**p.c / 2e11**p.beta
        losses.append(p.E + inner**p.gamma)
    rows = law.log_loss(LOG_N[2:], LOG_D[2:])
    second, third = np.log(sorted(losses)[1:3])
    assert law.centre(rows)[0] == pytest.approx((second + third) / 2, rel=1e-11)
    assert loss_estimate(law, rows[:, 0]).value == pytest.approx(np.exp((second + third) / 2), rel=1e-11)


def constructed(draws: np.ndarray, noise: float, scale: float) -> LawDraws:
    """Three members and draws that differ by E alone, of laws without other terms."""
    log_e = np.concatenate([[0.1, 0.4, 0.2], draws])
    theta = np.tile([-690.0, -690.0, 0.0, 0.3, 0.3, 0.0, 0.0, np.nan, np.nan], (len(log_e), 1))
    theta[:, 2] = log_e
    return LawDraws("made", theta, 3, {}, {}, {}, np.full(len(log_e), noise), scale, True)


def test_draws_are_widened_around_the_median_member():
    law = constructed(np.array([0.2, 0.3, 0.1]), noise=0.0, scale=2.0)
    rows = law.log_loss(LOG_N, LOG_D)
    assert rows[:, 0] == pytest.approx([0.1, 0.4, 0.2, 0.2, 0.3, 0.1])
    assert law.centre(rows) == pytest.approx([0.2] * 3)
    assert law.widened(rows)[:, 0] == pytest.approx([0.2, 0.4, 0.0])


def test_intervals_are_quantiles_of_the_widened_draws():
    """Draws in [0, 0.4] around 0.2: 95 % of twice as wide a range is [-0.18, 0.58]."""
    law = constructed(np.linspace(0.0, 0.4, 4001), noise=0.0, scale=2.0)
    found = loss_estimate(law, law.log_loss(LOG_N[:1], LOG_D[:1])[:, 0])
    assert found.value == pytest.approx(np.exp(0.2))
    assert found.law_interval95 == pytest.approx((np.exp(-0.18), np.exp(0.58)), rel=1e-9)
    assert found.interval95 == pytest.approx(found.law_interval95)


def test_new_run_has_the_variance_of_law_and_noise():
    rng = np.random.default_rng(0)
    law = constructed(0.2 + 0.01 * rng.standard_normal(20_000), noise=0.02, scale=1.5)
    found = loss_estimate(law, law.log_loss(LOG_N[:1], LOG_D[:1])[:, 0])
    half = 1.959964 * 1.5 * 0.01
    assert np.log(found.law_interval95) == pytest.approx([0.2 - half, 0.2 + half], abs=0.04 * half)
    half = 1.959964 * 1.5 * np.hypot(0.01, 0.02)
    assert np.log(found.interval95) == pytest.approx([0.2 - half, 0.2 + half], abs=0.04 * half)


def test_noise_of_new_runs_leaves_the_members_alone_and_repeats(fitted):
    law = LawDraws.from_file(fitted, None)
    rows = law.log_loss(LOG_N, LOG_D)
    noisy = law.with_noise(rows)
    assert np.array_equal(noisy[:4], rows[:4])
    assert np.array_equal(noisy, law.with_noise(rows))
    scaled = (noisy - rows)[4:] / law.noise[4:, None]
    assert scaled.std() == pytest.approx(1, rel=0.1) and abs(scaled.mean()) < 0.15


def test_interval_of_a_new_run_contains_that_of_the_law(fitted):
    law = LawDraws.from_file(fitted, None)
    for k in range(3):
        found = loss_estimate(law, law.log_loss(LOG_N[k : k + 1], LOG_D[k : k + 1])[:, 0])
        assert found.interval95[0] <= found.law_interval95[0] < found.value
        assert found.value < found.law_interval95[1] <= found.interval95[1]
        assert np.diff(np.log(found.interval95)) > 2 * 1.9 * 0.002  # the noise alone, nearly


def test_a_number_that_was_given_has_no_interval(fitted):
    law = LawDraws.from_file(fitted, None)
    assert estimate(law, np.full(len(law.theta), np.log(7.0))).interval95 is None


def test_additive_law_alone_is_the_single_epoch_law():
    law = fit_table(table(), law="additive", **LAWS)
    (series,) = law.series.values()
    assert series.forecast is None
    rows = LawDraws.from_file(law, None)
    assert rows.points == 1 and rows.draws == 200
    assert (rows.scale, rows.backtested) == (1.0, False)
    assert named(rows.theta[0, :5]) == pytest.approx(dict(series.single_epoch.params), rel=1e-12)
    assert (rows.theta[:, 5:7] == 0).all()
    drawn = np.exp(rows.theta[1:, 0])
    assert drawn == pytest.approx(series.single_epoch.draws.A, rel=1e-12)
    assert (rows.noise == series.single_epoch.noise).all()


@pytest.mark.parametrize("option", [{"tied": True}, {"fixed": {"E": 1.73}}])
def test_tied_or_fixed_parameters_leave_the_additive_law_alone(option):
    law = fit_table(table(), **option, **LAWS)
    (series,) = law.series.values()
    assert isinstance(series.forecast, Missing) and "tied or fixed" in series.forecast.missing
    rows = LawDraws.from_file(law, None)
    assert rows.points == 1
    assert rows.theta[0, :5] == pytest.approx(to_theta(dict(series.single_epoch.params)), rel=1e-12)


def test_members_that_did_not_converge_take_no_part_in_a_plan(fitted):
    file = section(fitted)
    weights = {"additive": 0.0, "power": 0.5, "power_without_E": 0.5, "coupled": 0.0}
    members = {
        name: member.model_copy(update={"weight": weights[name]}) for name, member in file.members.items()
    }
    ((name, series),) = fitted.series.items()
    series = series.model_copy(update={"forecast": file.model_copy(update={"members": members})})
    rows = LawDraws.from_file(fitted.model_copy(update={"series": {name: series}}), None)
    assert rows.points == 2 and rows.draws == 100
    assert np.exp(rows.theta[:2, 5]) == pytest.approx(
        [file.members[k].params.gamma for k in ("power", "power_without_E")]
    )


def test_too_few_runs_for_a_backtest_are_said_to_be_so():
    law = fit_table(table(count=7), **LAWS)
    file = section(law)
    assert isinstance(file.backtest, Missing) and file.backtest.missing.startswith("not backtested")
    rows = LawDraws.from_file(law, None)
    assert (rows.scale, rows.backtested) == (1.5, False)
    (series,) = law.series.values()
    assert "not backtested" in [check.check for check in series.checks]


def test_sharp_corner_keeps_its_forecast_through_the_file(tmp_path):
    """With a small gamma, A and B exceed the largest float; the file has their logarithms."""
    rng = np.random.default_rng(1)
    params = 10 ** rng.uniform(7, 9.5, 60)
    tokens = params * 10 ** rng.uniform(0, 2.2, 60)
    corner = np.maximum(-0.3 * (np.log(params) - 19), -0.3 * (np.log(tokens) - 22))
    loss = (1.2 + np.exp(corner)) * np.exp(1e-3 * rng.standard_normal(60))
    table = {"params": params, "tokens": tokens, "loss": loss}
    write_law(fit_table(table, bootstrap=100, laws=["single_epoch"]), tmp_path / "law.json")
    law = LawDraws.from_file(read_law(tmp_path / "law.json"), None)
    centre = np.exp(law.centre(law.log_loss(np.log([1e10]), np.log([2e11]))))
    assert centre[0] == pytest.approx(1.5, rel=0.02)


def test_runs_of_weight_zero_are_not_seen():
    rng = np.random.default_rng(0)
    params = 10 ** rng.uniform(7, 9.5, 20)
    tokens = params * 10 ** rng.uniform(0, 2.2, 20)
    loss = (1.73 + 13.9 / params**0.25 + 39.8 / tokens**0.24) * np.exp(0.003 * rng.standard_normal(20))
    spoilt, weight = loss.copy(), np.ones(20)
    weight[15:], spoilt[15:] = 0.0, [9, 0.3, 5, 0.1, 8]
    kept = {"params": params[:15], "tokens": tokens[:15], "loss": loss[:15]}
    weighted = {"params": params, "tokens": tokens, "loss": spoilt, "weight": weight}
    one, other = (
        fit_table(table, bootstrap=100, laws=["single_epoch"]).series["runs"].forecast
        for table in (kept, weighted)
    )
    assert one == other


@pytest.mark.parametrize("count", [10, 30])
def test_members_converge_where_all_runs_have_the_same_ratio(count):
    params = np.geomspace(1e7, 3e9, count)
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(count))
    loss = (1.73 + 13.9 / params**0.25 + 39.8 / (20 * params) ** 0.24) * noise
    pool = fit_pool(Ladder.of(params, 20 * params, loss), 100, np.random.default_rng(0))
    assert len(pool.fits) == len(MEMBERS) and not pool.left_out
