import pytest
from law_files import with_fields, with_sections

from speechscale.records.law import read_law, write_law
from speechscale.records.law_sections import Check
from speechscale.report.folder import read_study_results
from speechscale.report.summary import findings, relation_to_chance


def test_findings_agree_with_the_tables(finished_study):
    text = "\n".join(findings(read_study_results(finished_study)))
    assert "20 models of 50.3 k to 811 k parameters (N, non-embedding)" in text
    assert "1 more diverged or failed and is listed below" in text
    assert "The best model is speech-811k-x20 (N = 811 k, D = 16.2 M, 7.9e13 FLOPs as 6ND)" in text
    assert "Loss falls with D at the same N, in all of 15 comparisons." in text
    law = read_law(finished_study / "law.json").series["speech"]
    for symbol, part, name in (
        ("α", "single_epoch", "alpha"),
        ("β", "single_epoch", "beta"),
        ("γ", "envelope", "gamma"),
    ):
        fitted = getattr(law, part)
        low, high = getattr(fitted.interval95, name)
        assert f"{symbol} = {getattr(fitted.params, name):#.3g} [{low:#.3g}, {high:#.3g}]" in text


def test_score_at_chance_is_reported_with_the_forecast_of_the_law(study_folder):
    text = "\n".join(findings(read_study_results(study_folder)))
    assert "sStoryCloze stays at chance; the law cannot say: these scores do not rise above chance." in text
    assert "Lexical stays at chance" not in text


def test_rising_losses_are_counted(make_study, records):
    worse = records[3].model_copy(update={"loss": 5.0})
    text = "\n".join(findings(read_study_results(make_study([*records[:3], worse, *records[4:]]))))
    assert "Loss falls with D at the same N in 14 of 15 comparisons." in text


def test_unconverged_fit_gives_no_numbers(study_folder):
    law = read_law(study_folder / "law.json")
    write_law(with_fields(law, "speech", "single_epoch", converged=False), study_folder / "law.json")
    text = "\n".join(findings(read_study_results(study_folder)))
    assert "did not converge, so its parameters are not a result" in text
    assert "α =" not in text


def test_scores_are_grouped_by_their_interval_against_chance(study_folder, records):
    (sentence,) = (line for line in findings(read_study_results(study_folder)) if "a training voice" in line)
    above, _, rest = sentence.partition("not distinguishable from chance:")
    largest = max((record for record in records if record.loss), key=lambda record: record.flops)
    for name, task in (
        ("Lexical", "lexical"),
        ("Minimal pairs", "minimal_pairs"),
        ("sStoryCloze", "sstorycloze"),
    ):
        assert name in (above if largest.scores[task].low > 0.5 else rest)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0.51, 0.6, "above"), (0.5, 0.6, "at"), (0.4, 0.49, "below"), (None, None, "unknown")],
)
def test_comparison_of_an_interval_with_chance(low, high, wanted):
    assert relation_to_chance({"low": low, "high": high, "chance": 0.5}) == wanted


def test_missing_parts_are_reported(study_folder):
    (study_folder / "law.json").unlink()
    text = "\n".join(findings(read_study_results(study_folder)))
    assert "The law L(N, D) = E + A/Nᵅ + B/Dᵝ is missing: this study folder has no law.json" in text


def test_one_budget_per_size_gives_no_finding_about_tokens(make_study, records):
    single = [record for record in records if record.run.endswith("-x2")]
    text = "\n".join(findings(read_study_results(make_study(single))))
    assert "No size was trained with two budgets" in text


@pytest.mark.parametrize("check", ["not identified", "exponent at bound", "one value"])
def test_exponents_that_runs_do_not_determine_are_no_finding(study_folder, check):
    law = read_law(study_folder / "law.json")
    added = Check.of(check, "these runs do not determine alpha")
    write_law(with_sections(law, "speech", checks=[added]), study_folder / "law.json")
    text = "\n".join(findings(read_study_results(study_folder)))
    assert "do not determine the exponents of" in text and "best split as N" not in text


def test_scores_of_few_items_are_not_compared(make_study, records):
    """From 0.0 % to 50.0 % on two items says nothing."""
    few = [
        record.model_copy(
            update={"scores": {name: s.model_copy(update={"items": 2}) for name, s in record.scores.items()}}
        )
        for record in records
    ]
    assert "From the run with least compute" not in _text(make_study(few))


def test_growth_of_a_score_has_intervals(study_folder):
    (line,) = (x for x in findings(read_study_results(study_folder)) if x.startswith("From the run with"))
    assert line.count("[") == 2 * line.count(" from ")


def _text(folder):
    return "\n".join(findings(read_study_results(folder)))


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0.4, 0.7, "untrained"), (0.4, 0.58, "above"), (None, None, "above")]
)
def test_score_within_the_band_of_untrained_models_is_not_above_chance(low, high, wanted):
    score = {"accuracy": 0.6, "low": 0.55, "high": 0.65, "chance": 0.5, "null_low": low, "null_high": high}
    assert relation_to_chance(score) == wanted
