import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from law_files import with_fields

from speechscale.cli.format_plan import format_further_runs, format_plan
from speechscale.cli.plan import parse_score_target
from speechscale.errors import UserError
from speechscale.laws.draws import LawDraws
from speechscale.laws.forecasts import forecast_runs
from speechscale.laws.forms import log_loss
from speechscale.laws.table import fit_table
from speechscale.plan import Constraints, plan_budget, plan_next, plan_run, plan_target
from speechscale.records.law import read_law, write_law
from speechscale.records.plan import Plan, write_plan


@pytest.fixture(scope="module")
def law_file(tmp_path_factory):
    """Forty runs of the published speech law, some of several epochs, with a rising score."""
    rng = np.random.default_rng(0)
    speech = LawDraws.from_publication("speech")
    params = np.repeat([2e7, 8.5e7, 1.5e8, 3e8, 8e8], 8)
    tokens = params * np.tile([2, 8, 20, 64, 160, 320, 640, 1280], 5)
    unique = np.minimum(tokens, 10.89e9)
    exact = speech.log_loss(np.log(params), np.log(tokens), np.log(unique))[0]
    # Only repetition is drawn from the whole law; the single-epoch runs obey the single-epoch law.
    exact = np.where(tokens > unique, exact, log_loss(speech.theta[0, :5], np.log(params), np.log(tokens)))
    loss = np.exp(exact + 0.002 * rng.standard_normal(40))
    score = rng.binomial(5000, 0.5 + 0.5 / (1 + np.exp(4 * (loss - 1.9)))) / 5000
    table = {
        "run": [f"r{k}" for k in range(40)],
        "params": params,
        "tokens": tokens,
        "unique_tokens": unique,
        "loss": loss,
        "sblimp": score,
        "sblimp_items": np.full(40, 5000.0),
    }
    path = tmp_path_factory.mktemp("law") / "law.json"
    write_law(fit_table(table, bootstrap=300), path)
    return path


@pytest.fixture
def law(law_file):
    return LawDraws.from_file(read_law(law_file), None)


def test_published_speech_reproduces_its_own_formula():
    plan = plan_budget(LawDraws.from_publication("speech"), 1e21)
    g = (0.25 * 13.9 / (0.24 * 39.8)) ** (1 / 0.49)
    assert plan.params.value == pytest.approx(g * (1e21 / 6) ** (0.24 / 0.49))
    assert plan.params.value * plan.tokens.value * 6 == pytest.approx(1e21)
    assert plan.loss.value == pytest.approx(
        1.73 + 13.9 / plan.params.value**0.25 + 39.8 / plan.tokens.value**0.24
    )
    assert plan.loss.interval95 is None
    assert any("without uncertainty" in note for note in plan.notes)
    assert plan.audio_hours.value == pytest.approx(plan.tokens.value / 10.89e9 * 160_000)


def test_a_fitted_law_plans_with_intervals(law):
    plan = plan_budget(law, 1e21)
    assert plan.members == 3 and plan.backtested  # of the four, one is left out
    for estimate in (plan.params, plan.tokens, plan.loss, plan.scores["sblimp"]):
        low, high = estimate.interval95
        assert low < estimate.value < high
    assert plan.flops.interval95 is None
    assert plan.beyond["flops"] == pytest.approx(1e21 / law.largest["flops"])


def test_a_goal_and_its_budget_agree(law):
    goal = plan_target(law, "sblimp", 0.75)
    back = plan_budget(law, goal.flops.value)
    # The median of the budgets and the budget of the median law differ, because the laws of the pool do.
    assert back.scores["sblimp"].value == pytest.approx(0.75, abs=1e-3)
    assert goal.flops.interval95[0] < goal.flops.value < goal.flops.interval95[1]


def test_a_goal_and_its_budget_agree_exactly_for_one_law(law_file):
    content = read_law(law_file)
    alone = content.series["runs"].model_copy(update={"forecast": None})
    law = LawDraws.from_file(content.model_copy(update={"series": {"runs": alone}}), None)
    goal = plan_target(law, "sblimp", 0.75)
    assert plan_budget(law, goal.flops.value).scores["sblimp"].value == pytest.approx(0.75, abs=1e-6)
    assert law.points == 1 and not law.backtested
    assert any("Not backtested" in note for note in goal.notes)


def test_a_loss_is_a_goal_too(law):
    reached = plan_budget(law, 1e21).loss.value
    goal = plan_target(law, "loss", reached)
    assert goal.flops.value == pytest.approx(1e21, rel=0.1)
    with pytest.raises(UserError, match=r"no budget is enough; the least loss that it reaches"):
        plan_target(law, "loss", 0.5)


def test_a_run_is_forecast_with_both_intervals(law):
    plan = plan_run(law, 1e9, 2e10)
    assert (plan.params.value, plan.tokens.value, plan.flops.value) == pytest.approx((1e9, 2e10, 1.2e20))
    assert plan.params.interval95 is plan.flops.interval95 is None
    low, high = plan.loss.interval95
    law_low, law_high = plan.loss.law_interval95
    assert low <= law_low < plan.loss.value < law_high <= high
    members = law.log_loss(np.log([1e9]), np.log([2e10]))[: law.points, 0]
    assert plan.loss.value == pytest.approx(float(np.exp(np.median(members))))


def test_forecasts_of_a_table_are_those_of_single_runs(law):
    design = pl.DataFrame({"run": ["a", "b"], "params": [1e9, 1e8], "tokens": [2e10, 1e9]})
    table = forecast_runs(law, design)
    plan = plan_run(law, 1e9, 2e10)
    first = table.row(0, named=True)
    assert table["run"].to_list() == ["a", "b"] and first["flops"] == 1.2e20
    assert first["loss"] == pytest.approx(plan.loss.value)
    assert (first["law_low"], first["law_high"]) == pytest.approx(plan.loss.law_interval95)
    assert (first["loss_low"], first["loss_high"]) == pytest.approx(plan.loss.interval95)
    assert (first["sblimp"], first["sblimp_low"]) == pytest.approx(
        (plan.scores["sblimp"].value, plan.scores["sblimp"].interval95[0])
    )
    assert first["beyond"] == pytest.approx(max(plan.beyond.values(), default=1.0))
    assert table["beyond"][1] == 1.0  # inside the fitted runs


@pytest.mark.parametrize("limits", [Constraints(unique_tokens=5e9), Constraints(params=3e8)])
def test_a_goal_under_constraints_and_its_budget_agree(law, limits):
    goal = plan_target(law, "sblimp", 0.7, limits)
    assert plan_budget(law, goal.flops.value, limits).scores["sblimp"].value == pytest.approx(0.7, abs=2e-3)


def test_goals_out_of_reach_are_refused_with_the_reason(law):
    with pytest.raises(UserError, match=r"between chance .* and its ceiling"):
        plan_target(law, "sblimp", 1.0)
    ceiling = np.median(law.scores["sblimp"].curves[: law.scores["sblimp"].points, 2])
    with pytest.raises(UserError, match="no budget is enough"):
        plan_target(law, "sblimp", ceiling - 1e-3)
    with pytest.raises(UserError, match=r"no rising curve for 'sblmp' \(did you mean 'sblimp'"):
        plan_target(law, "sblmp", 0.8)


def test_few_unique_tokens_are_repeated_and_cost_loss():
    speech = LawDraws.from_publication("speech")
    free = plan_budget(speech, 1e21)
    tight = plan_budget(speech, 1e21, Constraints(unique_tokens=2e10))
    assert tight.epochs.value == pytest.approx(tight.tokens.value / 2e10)
    assert tight.epochs.value > 1 and tight.loss.value > free.loss.value
    assert any("The data is repeated" in note for note in tight.notes)


def test_the_constrained_split_is_the_least_loss_of_its_budget():
    speech = LawDraws.from_publication("speech")
    plan = plan_budget(speech, 1e21, Constraints(unique_tokens=2e10))
    sizes = np.log(plan.params.value) + np.linspace(-3, 3, 2001)
    losses = speech.log_loss(sizes, np.log(1e21 / 6) - sizes, np.array([np.log(2e10)]))[0]
    assert plan.loss.value <= np.exp(losses.min()) * (1 + 1e-6)


def test_enough_unique_tokens_change_nothing():
    speech = LawDraws.from_publication("speech")
    plan = plan_budget(speech, 1e19, Constraints(unique_tokens=1e15))
    assert plan.params.value == pytest.approx(plan_budget(speech, 1e19).params.value, rel=0.03)
    assert plan.epochs.value == 1


def test_a_fixed_size_leaves_the_tokens():
    plan = plan_budget(LawDraws.from_publication("speech"), 1e21, Constraints(params=8.23e8))
    assert plan.params.value == pytest.approx(8.23e8)
    assert plan.tokens.value == pytest.approx(1e21 / 6 / 8.23e8)


def test_hours_and_cost_of_a_gpu():
    gpu = plan_budget(
        LawDraws.from_publication("text"), 1e21, Constraints(gpu="a100", mfu=0.5, price=2.0)
    ).gpu
    assert gpu.hours.value == pytest.approx(1e21 / (312e12 * 0.5) / 3600)
    assert gpu.cost.value == pytest.approx(2 * gpu.hours.value)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Constraints(gpu="A1000"), "GPU 'A1000' is not in the table"),
        (Constraints(mfu=1.5), "MFU of 1.5"),
        (Constraints(params=-1.0), "params of -1"),
        (Constraints(gpu="A100", price=-1.0), "a price of -1"),
        (Constraints(price=2.0), "a price without a GPU"),
        (Constraints(tokens_per_second=0.0), "tokens per second of 0"),
    ],
)
def test_bad_constraints_are_refused(limits, message):
    with pytest.raises(UserError, match=message):
        plan_budget(LawDraws.from_publication("speech"), 1e20, limits)


def test_a_law_without_repetition_cannot_plan_epochs():
    with pytest.raises(UserError, match="not fitted to repeated data"):
        plan_budget(LawDraws.from_publication("speech-unigram"), 1e21, Constraints(unique_tokens=6e9))


def test_an_unknown_publication_is_refused():
    with pytest.raises(UserError, match=r"no published law 'speach' \(did you mean 'speech'"):
        LawDraws.from_publication("speach")


def test_goals_are_fractions_or_a_loss():
    assert parse_score_target("sblimp=0.8") == ("sblimp", 0.8)
    assert parse_score_target("loss=2.1") == ("loss", 2.1)
    with pytest.raises(UserError, match=r"80 % is sblimp=0\.8"):
        parse_score_target("sblimp=80")
    with pytest.raises(UserError, match=r"as in sblimp=0\.8"):
        parse_score_target("sblimp")


def test_plans_and_next_runs_are_written_and_formatted(law, tmp_path):
    plan = plan_budget(law, 1e21, Constraints(unique_tokens=2e10, gpu="H100", tokens_per_second=19))
    write_plan(plan, tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["schema"] == "speechscale.plan/2" and Plan.model_validate(content["plan"]) == plan
    for word in ("compute", "epochs", "sblimp", "hours of one H100", "beyond the fitted runs by a factor of"):
        assert word in format_plan(plan)
    further = plan_next(law, 2, 1e20)
    write_plan(further, tmp_path / "next.json")
    content = json.loads((tmp_path / "next.json").read_text())
    assert [run["params"] for run in content["next"]] == [run.params for run in further.runs]


def test_every_plan_repeats_the_checks_of_its_law(law, tmp_path):
    assert any(check.check == "flat optimum" for check in law.checks)
    plan, further = plan_budget(law, 1e21), plan_next(law, 2, 1e20)
    assert plan.law_checks == further.law_checks == law.checks
    assert plan_target(law, "sblimp", 0.75).law_checks == law.checks
    for found, text in ((plan, format_plan(plan)), (further, format_further_runs(further))):
        write_plan(found, tmp_path / "plan.json")
        content = json.loads((tmp_path / "plan.json").read_text())
        written = (content.get("plan") or content)["law_checks"]
        assert [check["message"] for check in written] == [check.message for check in law.checks]
        for check in law.checks:
            mark = "!" if check.level == "warning" else "-"
            assert f"  {mark} {check.check}: {check.message}" in text


def test_published_law_has_no_checks():
    assert plan_budget(LawDraws.from_publication("speech"), 1e21).law_checks == []


def test_law_that_did_not_converge_is_refused_with_what_to_do(law_file):
    content = read_law(law_file)
    fit = content.series["runs"].single_epoch
    convergence = fit.convergence.model_copy(update={"agreeing": 1, "gradient": 0.02})
    alone = content.series["runs"].model_copy(update={"forecast": None})
    content = content.model_copy(update={"series": {"runs": alone}})
    unconverged = with_fields(content, "runs", "single_epoch", converged=False, convergence=convergence)
    with pytest.raises(UserError) as refusal:
        LawDraws.from_file(unconverged, None)
    message = str(refusal.value)
    assert "law of series 'runs' did not converge, so nothing can be planned with it" in message
    assert f"1 of {convergence.starts} starts reached the least objective" in message
    assert "a scaled gradient of 2.0e-02" in message
    assert "fit again with `speechscale fit`" in message


def test_a_series_must_be_chosen_among_several(law_file):
    content = read_law(law_file)
    content = content.model_copy(update={"series": {**content.series, "other": content.series["runs"]}})
    with pytest.raises(UserError, match="choose one with --series"):
        LawDraws.from_file(content, None)
    with pytest.raises(UserError, match="no series 'third'"):
        LawDraws.from_file(content, "third")


@pytest.mark.parametrize(("column", "name"), [(3, "alpha"), (4, "beta")])
@pytest.mark.parametrize("exponent", [-0.1, 0.0, np.nan])
def test_law_without_positive_exponents_is_refused(law, column, name, exponent):
    theta = law.theta.copy()
    theta[0, column] = exponent
    rising = dataclasses.replace(law, theta=theta)
    for plan in (
        lambda: plan_budget(rising, 1e21),
        lambda: plan_target(rising, "sblimp", 0.75),
        lambda: plan_next(rising, 2, 1e19),
    ):
        with pytest.raises(UserError, match=f"has {name} = .*; a finite number above zero is wanted"):
            plan()


@pytest.mark.parametrize(
    ("N", "L", "why"),
    [
        (
            np.repeat([1e7, 1e8, 1e9], 4),
            1 + 0.1 * np.log(np.repeat([1e7, 1e8, 1e9], 4)),
            "hardly falls with N",
        ),
        (np.full(12, 1e8), np.geomspace(4, 3, 12), "have the same N, 1e\\+08"),
    ],
)
def test_law_that_names_no_best_split_is_refused_unless_the_size_is_given(N, L, why):
    tokens = np.tile([1e9, 1e10, 1e11, 1e12], 3) if N[0] < N[-1] else np.geomspace(1e9, 1e12, 12)
    noise = 1 + 0.002 * np.random.default_rng(0).standard_normal(12)
    law = LawDraws.from_file(fit_table({"N": N, "D": tokens, "L": L * noise}, bootstrap=200), None)
    for question in (lambda: plan_budget(law, 1e21), lambda: plan_target(law, "loss", 2.5)):
        with pytest.raises(UserError, match=f"names no best split of a budget: .*{why}"):
            question()
    assert np.isfinite(plan_budget(law, 1e21, Constraints(params=1e8)).loss.value)


def test_published_exponent_gives_the_budget_of_a_score():
    """Q ~ C^0.021 from sBLIMP 61.3 at 823 M parameters and 82 B tokens."""
    law = LawDraws.from_publication("speech")
    plan = plan_target(law, "sblimp", 0.8)
    assert plan.flops.value == pytest.approx(6 * 823e6 * 82e9 * (0.8 / 0.613) ** (1 / 0.021), rel=1e-9)
    assert plan.params.value == pytest.approx(plan_budget(law, plan.flops.value).params.value, rel=1e-12)
    (check,) = plan.law_checks
    assert "without saturation" in check.message and "no interval was published" in check.message


def test_published_exponent_without_a_score_is_refused():
    with pytest.raises(UserError, match="exponent of this score alone"):
        plan_target(LawDraws.from_publication("text"), "blimp", 0.9)
    with pytest.raises(
        UserError, match=r"no rising curve for 'salmon'.*it has sblimp, sstorycloze, tstorycloze"
    ):
        plan_target(LawDraws.from_publication("speech"), "salmon", 0.9)
