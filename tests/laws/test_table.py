import numpy as np
import polars as pl
import pytest

from speechscale.cli.format_law import format_law
from speechscale.errors import UserError
from speechscale.laws import fit_table
from speechscale.laws.forms import log_loss, to_theta
from speechscale.laws.repeated import log_effective
from speechscale.records.code import code_identity
from speechscale.records.law import read_law, write_law
from speechscale.records.law_sections import DroppedRun, Missing
from speechscale.records.revisions import revisions_of

NANO = {"E": 0.5, "A": 8.0, "B": 60.0, "alpha": 0.25, "beta": 0.35}


def nano_table(
    noise: float = 0.004, seed: int = 0, series: str = "speech", lift: float = 2.0
) -> pl.DataFrame:
    """A study of the nano shape: six sizes, five budgets, 1 M unique tokens, two scores."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(3e4, 1e6, 6), 5)
    tokens = np.tile([1e5, 2.5e5, 6e5, 1e6, 4e6], 6)
    unique = np.minimum(tokens, 1e6)
    theta = np.append(to_theta(NANO), np.log([10.0, 8.0]))
    log_n, log_d = log_effective(theta[None], np.log(params), np.log(tokens), np.log(unique))
    loss = np.exp(log_loss(theta[None, :5], log_n, log_d)[0] + noise * rng.standard_normal(30))
    rising = 0.5 + 0.5 / (1 + np.exp(lift * (loss - 1.2)))
    return pl.DataFrame(
        {
            "run": [f"{series}-{k}" for k in range(30)],
            "series": series,
            "status": "done",
            "preset": "paper",
            "params": params.astype(int),
            "params_total": params.astype(int) + 6000,
            "tokens": tokens.astype(int),
            "unique_tokens": unique.astype(int),
            "epochs": tokens / unique,
            "steps": 300,
            "seconds": 12.5,
            "seed": 0,
            "loss": loss,
            "loss_se": 0.002,
            "bits_per_second": loss / np.log(2) * 19.0,
            "agreement": rng.binomial(500, rising) / 500,
            "agreement_items": 500,
            "agreement_chance": 0.5,
            "lexical": rng.binomial(500, 0.5, 30) / 500,
            "lexical_items": 500,
        }
    )


@pytest.fixture(scope="module")
def law():
    return fit_table(nano_table(), bootstrap=200)


def test_every_section_is_fitted(law):
    speech = law.series["speech"]
    assert speech.single_epoch.params.alpha > 0 and speech.single_epoch.interval95.alpha is not None
    assert speech.single_epoch.allocation.a + speech.single_epoch.allocation.b == pytest.approx(1)
    assert speech.repeated.params.R_D > 0 and speech.repeated.joint.params.R_N > 0
    assert speech.envelope.params.gamma < 0 and speech.envelope.curvature.value is not None
    assert set(speech.downstream) == {"agreement", "lexical"}
    assert speech.downstream["agreement"].linear.slope < 0
    curves = speech.downstream["agreement"].by_loss.members
    assert set(curves) == {"logistic", "gompertz"} and all(
        0.5 < law.params.ceiling < 1 for law in curves.values()
    )
    assert law.efficiency == Missing(missing="one series only; a comparison takes two")


def test_runs_of_several_epochs_are_left_out_by_rule_and_named(law):
    rows = law.series["speech"].rows
    assert rows.used == 24
    assert rows.dropped[0] == DroppedRun(run="speech-4", reason="4 epochs: for the repeated-data law only")


def test_tokens_per_second_come_from_the_two_losses(law):
    assert law.series["speech"].tokens_per_second == pytest.approx(19.0)


def test_flat_score_does_not_emerge(law):
    emergence = law.series["speech"].downstream["lexical"].emergence
    assert emergence.flops is None
    assert "cannot say" in emergence.message


def test_draws_agree_with_their_intervals(law):
    first = law.series["speech"].single_epoch
    for name, draws in first.draws:
        assert len(draws) == 200
        interval = getattr(first.interval95, name)
        assert np.quantile(draws, [0.025, 0.975]) == pytest.approx(interval, rel=1e-4)


def test_the_same_seed_gives_the_same_file(law, tmp_path):
    for name, content in (("one", law), ("two", fit_table(nano_table(), bootstrap=200))):
        write_law(content, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    read = read_law(tmp_path / "one")
    assert read.code == code_identity() and read.revisions == revisions_of("fit")
    assert read.model_copy(update={"code": None, "revisions": {}}) == law


def test_summary_names_every_law_and_check(law):
    told = format_law(law)
    for word in ("alpha", "R_D", "envelope", "IsoFLOP", "agreement", "flat optimum"):
        assert word in told


def test_failed_runs_are_named_and_left_out():
    table = nano_table().with_columns(
        status=pl.when(pl.col("run") == "speech-2").then(pl.lit("diverged")).otherwise(pl.lit("done")),
        loss=pl.when(pl.col("run") == "speech-2").then(None).otherwise("loss"),
    )
    rows = fit_table(table, bootstrap=100, laws=["single_epoch"]).series["speech"].rows
    assert DroppedRun(run="speech-2", reason="status is 'diverged', not 'done'") in rows.dropped


def test_too_few_runs_leave_reasons_in_place_of_laws(tmp_path):
    law = fit_table(nano_table().head(4), bootstrap=100)
    speech = law.series["speech"]
    assert "cannot determine 5 parameters" in speech.single_epoch.missing
    assert speech.repeated.missing and speech.isoflop.missing
    assert speech.downstream["agreement"].missing
    write_law(law, tmp_path / "law.json")


@pytest.mark.parametrize("seed", range(4))
def test_any_table_makes_a_file_of_plain_numbers(seed, tmp_path):
    """Noise without a law in it, few runs, one size: the file has words where numbers would be infinite."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(7, 14))
    table = pl.DataFrame(
        {
            "N": 10 ** rng.uniform(4, 6, count) if seed % 2 else np.full(count, 1e5),
            "D": 10 ** rng.uniform(5, 7, count),
            "unique_tokens": 10 ** rng.uniform(5, 6, count),
            "L": rng.uniform(1, 3, count),
            "task": rng.uniform(0.3, 0.7, count),
        }
    )
    write_law(fit_table(table, bootstrap=100), tmp_path / "law.json")
    format_law(read_law(tmp_path / "law.json"))


def test_two_series_are_compared_both_ways():
    both = pl.concat([nano_table(series="text", lift=4.0), nano_table(series="speech", seed=1)])
    law = fit_table(both, bootstrap=200, laws=["downstream", "efficiency"])
    assert set(law.efficiency) == {"text/speech", "speech/text"}
    found = law.efficiency["text/speech"]["agreement"]
    assert found.ratio > 1 and found.interval95[0] < found.ratio < found.interval95[1]


def test_envelope_is_fitted_to_learning_curves():
    table = nano_table()
    steps = np.linspace(0.1, 1.0, 10)
    curves = pl.concat(
        [
            pl.DataFrame(
                {
                    "run": row["run"],
                    "series": "speech",
                    "params": float(row["params"]),
                    "tokens": row["tokens"] * steps,
                    "flops": 6.0 * row["params"] * row["tokens"] * steps,
                    "loss": row["loss"] * steps**-0.1,
                }
            )
            for row in table.iter_rows(named=True)
        ]
    )
    envelope = fit_table(table, curves=curves, bootstrap=100, laws=["envelope"]).series["speech"].envelope
    assert envelope.params.gamma < 0
    assert min(envelope.points.flops) < 6 * 3e4 * 1e5 * 0.2


def test_forecast_section_has_members_and_a_backtest():
    table = nano_table(noise=0.002).filter(pl.col("tokens") <= pl.col("unique_tokens"))
    found = fit_table(table, bootstrap=200, laws=["single_epoch"]).series["speech"].forecast
    assert list(found.members) == ["additive", "power", "power_without_E", "coupled"]
    assert sum(member.weight for member in found.members.values()) == pytest.approx(1)
    for split in found.backtest.splits:
        assert split.fitted + split.forecast == table.height
        assert len(split.runs.run) == split.forecast and min(split.runs.distance) > 1
        assert split.pool.rms < 0.1
    alone = fit_table(table, bootstrap=200, laws=["single_epoch"], law="additive").series["speech"]
    assert alone.forecast is None
    tied = fit_table(table, bootstrap=200, laws=["single_epoch"], tied=True).series["speech"].forecast
    assert "tied or fixed" in tied.missing


def test_unknown_choices_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"law 'envelop' is unknown \(did you mean 'envelope'"):
        fit_table(nano_table(), laws=["envelop"])
    with pytest.raises(UserError, match="series 'speach' is unknown"):
        fit_table(nano_table(), series=["speach"])
    with pytest.raises(UserError, match="envelope 'best' is unknown"):
        fit_table(nano_table(), envelope="best")
    with pytest.raises(UserError, match="20 draws cannot carry"):
        fit_table(nano_table(), bootstrap=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": -1.0}, "delta is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"law": "pool"}, r"law 'pool' is unknown"),
        ({"chance": 1.5}, r"chance is 1\.5; a fraction in \[0, 1\)"),
        ({"chance": 0.5, "ceiling": 0.4}, r"ceiling is 0\.4; a fraction above chance \(0\.5\)"),
        ({"fixed": {"E": 0.0}}, "E is fixed at 0; a value above zero"),
        ({"fixed": {"E": float("nan")}}, "E is fixed at nan"),
        ({"fixed": dict.fromkeys(("A", "B", "E", "alpha", "beta"), 1.0)}, "all five parameters are fixed"),
    ],
)
def test_impossible_options_are_refused_before_any_fit(options, message):
    with pytest.raises(UserError, match=message):
        fit_table(nano_table(), **options)


def test_a_table_of_failed_runs_is_refused():
    with pytest.raises(UserError, match=r"no run has the status 'done' \(found 'diverged'\)"):
        fit_table(nano_table().with_columns(status=pl.lit("diverged")))


def test_chance_column_applies_to_its_score():
    table = nano_table().with_columns(agreement_chance=0.25)
    scores = fit_table(table, bootstrap=100, laws=["downstream"]).series["speech"].downstream
    assert scores["agreement"].chance == 0.25 and scores["lexical"].chance == 0.5
    low = fit_table(table, bootstrap=100, laws=["downstream"], chance=0.2, ceiling=0.24)
    assert "not above its chance of 0.25" in low.series["speech"].downstream["agreement"].missing


def test_mapping_of_columns_is_accepted():
    frame = nano_table()
    columns = {"N": frame["params"].to_list(), "D": frame["tokens"].to_numpy(), "L": list(frame["loss"])}
    law = fit_table(columns, bootstrap=100, laws=["single_epoch"])
    assert law.series["runs"].rows.used == 30


def test_imported_models_have_scores_without_losses(tmp_path):
    """Their scores carry laws of compute and the comparison; what needs a loss says that there is none."""
    speech = nano_table(noise=0.002, lift=6.0)
    text = nano_table(noise=0.002, seed=1, series="text", lift=6.0).with_columns(
        status=pl.lit("imported"), loss=pl.lit(None, pl.Float64), bits_per_second=pl.lit(None, pl.Float64)
    )
    law = fit_table(pl.concat([speech, text]), bootstrap=200)
    known = fit_table(nano_table(noise=0.002, seed=1, series="text", lift=6.0), bootstrap=200)
    part, with_losses = (table.series["text"].downstream["agreement"] for table in (law, known))
    for name in ("gamma", "interval95", "by_compute"):
        assert getattr(part, name) == getattr(with_losses, name)
    for name in ("linear", "by_loss"):
        assert getattr(part, name) == Missing(missing="not every run with this score has a loss")
    assert "along the path of these runs" in part.emergence.message
    assert {"power_compute", "curve_compute"} <= set(part.out_of_sample.rmse)
    assert isinstance(law.series["text"].single_epoch, Missing)
    assert "its scores count" in law.series["text"].rows.dropped[0].reason
    assert law.efficiency["text/speech"]["agreement"].ratio > 0
    write_law(law, tmp_path / "law.json")  # JSON without an infinity or a not-a-number
    assert "text" in format_law(law)


def test_score_without_a_known_chance_asks_for_it():
    laws = fit_table(nano_table().drop("agreement_chance"), bootstrap=100, laws=["downstream"]).series[
        "speech"
    ]
    assert "state it in a column agreement_chance" in laws.downstream["agreement"].missing
    assert laws.downstream["lexical"].chance == 0.5  # a known benchmark
    given = fit_table(
        nano_table().drop("agreement_chance"), bootstrap=100, laws=["downstream"], chance=0.25
    ).series["speech"]
    assert given.downstream["agreement"].chance == 0.25 and given.downstream["lexical"].chance == 0.5


def test_scores_far_below_their_chance_are_refused():
    low = nano_table().with_columns(agreement=pl.col("agreement") * 0.4)
    laws = fit_table(low, bootstrap=100, laws=["downstream"]).series["speech"]
    assert "are below its chance of 0.5: state its own chance" in laws.downstream["agreement"].missing


def test_unknown_numbers_are_listed_and_become_scores_when_named():
    table = nano_table().with_columns(wall_hours=pl.lit(0.5), closeness=pl.col("agreement"))
    speech = fit_table(table, bootstrap=100, laws=["downstream"]).series["speech"]
    (check,) = (check for check in speech.checks if check.check == "unused columns")
    assert "nothing is fitted to wall_hours, closeness" in check.message
    assert set(speech.downstream) == {"agreement", "lexical"}
    named = fit_table(table, bootstrap=100, laws=["downstream"], scores=("closeness",), chance=0.5).series[
        "speech"
    ]
    assert set(named.downstream) == {"agreement", "lexical", "closeness"}


def test_table_of_scores_without_losses_is_fitted():
    text = nano_table(lift=6.0).drop("loss", "loss_se", "bits_per_second")
    law = fit_table(text, bootstrap=100).series["speech"]
    assert law.downstream["agreement"].gamma > 0 and isinstance(law.single_epoch, Missing)


def test_imported_models_alone_are_fitted():
    text = nano_table(lift=6.0).with_columns(status=pl.lit("imported"), loss=pl.lit(None, pl.Float64))
    law = fit_table(text, bootstrap=100)
    assert law.series["speech"].downstream["agreement"].gamma > 0


def test_run_that_ends_within_a_rounded_step_of_its_data_is_single_epoch():
    """A run is rounded to whole steps: 1.0005 epochs count as one, in the law as in the figures."""
    table = nano_table().with_columns(pl.col("tokens", "unique_tokens").cast(pl.Float64))
    longer = table.with_columns(
        tokens=pl.when(pl.col("run") == "speech-3").then(1.0005e6).otherwise("tokens"),
    )
    law = fit_table(longer, bootstrap=100, laws=["single_epoch"]).series["speech"]
    assert law.rows.used == 24
    assert "speech-3" in law.single_epoch.residuals.run
    beyond = longer.with_columns(
        tokens=pl.when(pl.col("run") == "speech-3").then(1.002e6).otherwise("tokens"),
    )
    assert fit_table(beyond, bootstrap=100, laws=["single_epoch"]).series["speech"].rows.used == 23
