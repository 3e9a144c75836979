import numpy as np
import polars as pl
import pytest
from law_files import with_fields, with_sections

from speechscale.errors import UserError
from speechscale.records.law import read_law, write_law
from speechscale.records.law_sections import Missing
from speechscale.records.repeated_sections import Rates
from speechscale.records.runs_table import write_curves, write_table
from speechscale.report import theme
from speechscale.report.figures import Figure, specification, study_figures, write_figures
from speechscale.report.folder import read_study_results
from speechscale.report.predictions import least_losses


@pytest.fixture(scope="module")
def figures(finished_study) -> dict[str, Figure]:
    return {figure.name: figure for figure in study_figures(read_study_results(finished_study))}


def drawn(panel, *columns: str, but_not: str = "") -> list[dict]:
    """The rows that a panel draws from tables with all of these columns."""
    tables = specification(panel)["datasets"].values()
    fitting = [rows for rows in tables if rows and set(columns) <= set(rows[0]) and but_not not in rows[0]]
    return [row for rows in fitting for row in rows]


def test_points_are_exactly_the_finished_runs(figures, records):
    done = {record.run: (record.flops, record.loss) for record in records if record.status == "done"}
    for name in ("loss-against-compute", "loss-against-data"):
        points = drawn(figures[name].panels[0], "run", "data")
        assert {row["run"]: (row["flops"], row["loss"]) for row in points} == done
        assert all((row["data"] == "repeated") == (row["epochs"] > 1.001) for row in points)


def test_run_within_single_epoch_tolerance_is_drawn_as_seen_once(make_study, records):
    """The figures and the law share `is_single_epoch`."""
    rounded = records[0].model_copy(update={"unique_tokens": round(records[0].tokens / 1.0005)})
    folder = make_study([rounded, *records[1:]])
    points = drawn(study_figures(read_study_results(folder))[0].panels[0], "run", "data")
    assert [row["data"] for row in points if row["run"] == rounded.run] == ["seen once"]


def test_learning_curves_have_all_evaluations(figures, records):
    lines = drawn(figures["loss-against-compute"].panels[0], "run", "size", "loss", but_not="data")
    wanted = sorted(
        (record.run, point.loss) for record in records if record.status == "done" for point in record.curve
    )
    assert sorted((row["run"], row["loss"]) for row in lines) == wanted


def test_scores_are_drawn_with_their_intervals(figures, records):
    for name in ("scores-against-compute", "scores-against-loss"):
        assert [panel.title for panel in figures[name].panels] == [
            "Lexical (word or non-word)",
            "Minimal pairs (grammar)",
            "sStoryCloze (cause and time)",
            "tStoryCloze (topic)",
        ]
        rows = drawn(figures[name].panels[0], "interval")
        wanted = sorted(
            (record.run, score.accuracy, score.low, score.high)
            for record in records
            for task, score in record.scores.items()
            if task in ("lexical", "lexical_unseen")
        )
        assert sorted((row["run"], row["accuracy"], row["low"], row["high"]) for row in rows) == wanted


def test_phenomena_are_drawn_for_the_run_with_most_compute(figures, records):
    largest = max((record for record in records if record.status == "done"), key=lambda record: record.flops)
    rows = drawn(figures["phenomena"].panels[0], "interval")
    assert {row["run"] for row in rows} == {largest.run}
    assert sorted(row["accuracy"] for row in rows) == sorted(
        score.accuracy for task, score in largest.scores.items() if "." in task
    )
    assert largest.run in figures["phenomena"].caption


def test_law_lines_have_the_losses_of_the_fitted_law(figures, finished_study):
    lines = pl.DataFrame(drawn(figures["loss-against-data"].panels[0], "law"))
    smallest = lines.filter((pl.col("law") == "single epoch") & (pl.col("size") == "50.3 k"))
    members = read_law(finished_study / "law.json").series["speech"].forecast.members.values()
    tokens = smallest["tokens"].to_numpy()
    losses = [
        law.E
        + (np.exp(law.log_A) / 50_304**law.alpha + np.exp(law.log_B) * 50_304**law.c / tokens**law.beta)
        ** law.gamma
        for law in (member.params for member in members if member.weight)
    ]
    assert smallest["loss"].to_list() == pytest.approx(np.exp(np.median(np.log(losses), axis=0)).tolist())


def test_repeated_data_line_is_above_the_single_epoch_line(study_folder):
    law = read_law(study_folder / "law.json")
    rates = Rates[float](R_D=2.0, R_N=1e6)
    pool = law.series["speech"].repeated.pool.model_copy(
        update={"weights": {"two_stages": 1.0, "joint": 0.0}}
    )
    write_law(with_fields(law, "speech", "repeated", params=rates, pool=pool), study_folder / "law.json")
    figure = study_figures(read_study_results(study_folder))[1]
    lines = pl.DataFrame(drawn(figure.panels[0], "law")).filter(pl.col("size") == "50.3 k").sort("tokens")
    once, repeated = (lines.filter(pl.col("law") == name) for name in ("single epoch", "repeated data"))
    assert repeated["tokens"][0] == pytest.approx(3e6)  # it begins where the data do
    assert repeated["loss"][0] == pytest.approx(np.interp(3e6, once["tokens"], once["loss"]), rel=1e-3)
    assert repeated["loss"][-1] > 1.02 * once["loss"][-1]


def test_score_laws_are_drawn_only_for_fitted_scores(figures, finished_study):
    fits = read_law(finished_study / "law.json").series["speech"].downstream
    lexical, sstorycloze = (
        figures["scores-against-compute"].panels[0],
        figures["scores-against-compute"].panels[2],
    )
    curve = fits["lexical"].by_compute
    line = pl.DataFrame(drawn(lexical, "flops", "accuracy", but_not="run"))
    angles = []
    for name, rise in {
        "logistic": lambda eta: 1 / (1 + np.exp(-eta)),
        "gompertz": lambda eta: np.exp(-np.exp(-eta)),
    }.items():
        params = curve.members[name].params
        eta = params.steepness * np.log(line["flops"].to_numpy() / params.midpoint)
        angles.append(np.arcsin(np.sqrt(curve.floor + (params.ceiling - curve.floor) * rise(eta))))
    assert line["accuracy"].to_list() == pytest.approx(np.sin(np.median(angles, axis=0)) ** 2)
    assert fits["sstorycloze"].by_compute.missing == "these scores do not rise above chance"
    assert not drawn(sstorycloze, "flops", "accuracy", but_not="run")


def test_score_law_rises_as_the_loss_falls(figures):
    line = pl.DataFrame(drawn(figures["scores-against-loss"].panels[0], "loss", "accuracy", but_not="run"))
    assert line.sort("loss")["accuracy"].is_sorted(descending=True)
    assert line["accuracy"].min() >= 0.5


def test_figures_without_data_give_the_reason(study_folder, tmp_path, records):
    law = read_law(study_folder / "law.json")
    missing = Missing(missing="3 points of single-epoch runs; 4 are the least")
    write_law(with_sections(law, "speech", envelope=missing), study_folder / "law.json")
    (why,) = study_figures(read_study_results(study_folder))[0].missing
    assert why == "The envelope of 'speech' is missing: 3 points of single-epoch runs; 4 are the least"

    bare = [record.model_copy(update={"scores": {}}) for record in records]
    write_table(bare, tmp_path / "runs.csv")
    by_name = {figure.name: figure for figure in study_figures(read_study_results(tmp_path))}
    for name in ("scores-against-compute", "scores-against-loss", "phenomena", "time"):
        assert not by_name[name].panels
        assert by_name[name].missing
    assert any("curves.csv" in why for why in by_name["loss-against-compute"].missing)
    assert by_name["loss-against-compute"].panels


def test_each_series_has_its_own_loss_axis(make_study, records):
    coarser = [
        record.model_copy(update={"series": "speech-unigram", "run": f"unigram-{record.run}"})
        for record in records
    ]
    by_name = {
        figure.name: figure for figure in study_figures(read_study_results(make_study(records + coarser)))
    }
    assert [panel.title for panel in by_name["loss-against-compute"].panels] == ["speech", "speech-unigram"]
    assert "no law for the series 'speech-unigram'" in " ".join(by_name["loss-against-compute"].missing)


def test_long_curves_are_thinned(study_folder, records):
    long = [
        record.model_copy(
            update={
                "curve": tuple(
                    point.model_copy(update={"step": i}) for i in range(50) for point in record.curve
                )
            }
        )
        for record in records
    ]
    write_curves(long, study_folder / "curves.csv")
    figure = study_figures(read_study_results(study_folder))[0]
    tables = specification(figure.panels[0])["datasets"].values()
    assert max(len(table) for table in tables) <= 6000


def test_figures_are_written_without_a_browser(finished_study, tmp_path):
    written = write_figures(finished_study, tmp_path / "figures", formats=("svg",))
    assert [path.name for path in written] == [
        "loss-against-compute.svg",
        "loss-against-data.svg",
        "scores-against-compute.svg",
        "scores-against-loss.svg",
        "phenomena.svg",
        "time.svg",
    ]
    assert all(path.read_text().startswith("<svg") for path in written)
    assert "currentColor" not in written[0].read_text()  # a file has no style sheet to take its ink from


def test_unknown_formats_are_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="format 'gif' is not known; figures are written as svg, png and pdf"):
        write_figures(tmp_path, tmp_path, formats=("gif",))


@pytest.mark.parametrize(("low", "high"), [(1e9, 1e14), (0.9, 1.3), (0.94, 5.2), (1e5, 1.7e7), (1.0, 1.04)])
def test_log_ticks_are_few_and_inside_the_axis(low, high):
    ticks = theme.log_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= high for tick in ticks)


def test_colours_grow_lighter_with_model_size():
    colours = list(theme.size_colours([10 * 2**step for step in range(9)]).values())

    def luminance(colour: str) -> float:
        red, green, blue = bytes.fromhex(colour[1:])
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert len(set(colours)) == 9
    assert luminance(colours[0]) < luminance(colours[4]) < luminance(colours[-1])


def test_a_model_size_has_one_colour_in_all_figures(figures, records):
    colours = list(theme.size_colours(record.params for record in records).values())
    for figure in figures.values():
        if figure.key == "sizes":
            assert all(str(colours) in str(specification(panel)) for panel in figure.panels)


def test_least_losses_are_never_above_a_point():
    runs = pl.DataFrame({"flops": [1.0, 4.0, 9.0], "loss": [5.0, 3.0, 3.5], "run": ["a", "b", "c"]})
    curves = pl.DataFrame({"flops": [2.0, 4.0, 8.0], "loss": [4.0, 3.2, None]})
    assert least_losses(runs, curves).rows() == [(1.0, 5.0), (2.0, 4.0), (4.0, 3.0)]
