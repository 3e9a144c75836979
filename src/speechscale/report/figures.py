"""The figures of a study, their captions, and their export without a browser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import altair as alt
import polars as pl

from speechscale.errors import UserError
from speechscale.records.seal import write_file
from speechscale.report import charts, formatting
from speechscale.report.comparison import PHENOMENON_SEPARATOR
from speechscale.report.folder import UNSEEN, StudyResults, read_study_results
from speechscale.report.predictions import (
    least_losses,
    predicted_losses,
    score_by_compute,
    score_by_loss,
    single_epoch_runs,
    unique_token_limit,
)
from speechscale.report.theme import FILE_TEXT_COLOUR, VegaSpec, configuration

FORMATS = ("svg", "png", "pdf")
LegendKind = Literal["sizes", "series"]
_MAX_CURVE_POINTS = (
    6000  # of the learning curves of a panel; beyond it they are thinned, below the resolution of the figure
)
_EXPORT_WIDTHS = {1: 620, 2: 360}  # of one panel in pixels, by the number of columns
_PNG_SCALE = 2.0


@dataclass(frozen=True)
class Figure:
    """One figure: a panel, or several that belong together."""

    name: str  # of its file, and its anchor on the page
    title: str
    caption: str
    panels: tuple[alt.LayerChart, ...] = ()
    missing: tuple[str, ...] = ()  # what cannot be drawn, and why, in sentences
    key: LegendKind | None = "sizes"  # what colour stands for


def study_figures(study: StudyResults) -> list[Figure]:
    """Every figure of a study, in reading order. A figure without data gives the reason."""
    return [
        _loss_against_compute(study),
        _loss_against_tokens(study),
        _scores_against_compute(study),
        _scores_against_loss(study),
        *([_series_bits(study), _series_scores(study)] if len(study.series) > 1 else []),
        _phenomena(study),
        _time(study),
    ]


def write_figures(study: Path, folder: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Export the figures of a study folder; returns the files written.

    Raises:
        UserError: an unknown format, a folder that is no study, or one that cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UserError(
            f"format {unknown[0]!r} is not known; figures are written as {formatting.listed(FORMATS)}."
        )
    written = []
    for figure in study_figures(read_study_results(study)):
        if figure.panels:
            whole = figure_specification(figure)
            for kind in formats:
                written.append(Path(folder) / f"{figure.name}.{kind}")
                write_file(written[-1], render(whole, kind))
    return written


def library_version() -> str:
    """The Vega-Lite release that Altair writes for, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def specification(chart: alt.TopLevelMixin) -> VegaSpec:
    """A chart as Vega-Lite JSON, whatever the number of its rows."""
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_dict()


def figure_specification(figure: Figure) -> VegaSpec:
    """A figure as one Vega-Lite specification with fixed widths, for files."""
    columns = min(len(figure.panels), 2)
    panels = [panel.properties(width=_EXPORT_WIDTHS[columns]) for panel in figure.panels]
    with warnings.catch_warnings():  # panels side by side may well share what pointing at a run does
        warnings.filterwarnings("ignore", "Automatically deduplicated selection parameter")
        whole = specification(alt.concat(*panels, columns=columns) if len(panels) > 1 else panels[0])
    return whole | {"config": configuration(FILE_TEXT_COLOUR), "background": "white", "padding": 16}


def main_scores(study: StudyResults) -> pl.DataFrame:
    """Scores of whole tasks, without those of single phenomena."""
    return study.scores.filter(~pl.col("task").str.contains(PHENOMENON_SEPARATOR, literal=True))


def tasks_in_order(scores: pl.DataFrame) -> list[str]:
    """The tasks of a score table in the order of `formatting.TASKS`, unknown ones last."""
    known = list(formatting.TASKS)
    return sorted(
        scores["task"].unique(), key=lambda task: (known.index(task) if task in known else len(known), task)
    )


def largest_run(runs: pl.DataFrame) -> Mapping[str, Any]:
    """The run with most compute."""
    return runs.sort("flops", "params").row(-1, named=True)


def _loss_against_compute(study: StudyResults) -> Figure:
    panels, missing = [], []
    for series in study.series:
        runs = study.done.filter(pl.col("series") == series)
        curves = _thin(study.curves.join(runs, on=["series", "run"], how="semi"))
        once = single_epoch_runs(runs)
        least = least_losses(once, curves.join(once, on=["series", "run"], how="semi"))
        panel = charts.loss_against_compute(runs, curves, least, _sizes(study))
        panels.append(_with_series_title(panel, study, series))
        missing += _missing_law_sentences(study, series, "envelope")
    if study.curves.is_empty():
        missing.append("Learning curves are missing: this study folder has no curves.csv.")
    return Figure(
        "loss-against-compute",
        "Loss against compute",
        "Thin lines: the test loss during training. Points: finished runs, filled circles where the data "
        "were seen at most once, hollow diamonds where they were repeated. Dashed: the least loss reached "
        "within the compute by runs that saw their data once; the power law of the envelope is fitted to it. "
        "Point at a run to see its numbers and the other runs of its size.",
        tuple(panels),
        tuple(missing),
    )


def _loss_against_tokens(study: StudyResults) -> Figure:
    panels, missing = [], []
    for series in study.series:
        runs = study.done.filter(pl.col("series") == series)
        panel = charts.loss_against_tokens(
            runs, predicted_losses(study, series), unique_token_limit(runs), _sizes(study)
        )
        panels.append(_with_series_title(panel, study, series))
        missing += _missing_law_sentences(study, series, "single_epoch") + _missing_law_sentences(
            study, series, "repeated"
        )
    return Figure(
        "loss-against-data",
        "Loss against data, size by size",
        "Points: finished runs. Solid lines: the law that forecasts come from (the median of the pooled laws, where "
        "the law file has them), as if every token were new. Dotted lines: the law of repeated data, where it is "
        "fitted. The vertical line marks one "
        "epoch: beyond it the data repeat.",
        tuple(panels),
        tuple(missing),
    )


def _scores_against_compute(study: StudyResults) -> Figure:
    panels = _score_panels(study, charts.score_against_compute, score_by_compute)
    return Figure(
        "scores-against-compute",
        "Scores against compute",
        f"Accuracy of choosing the better of two utterances by likelihood, zero-shot. {_VOICES} Bars: 95 % "
        "intervals over items. Grey: chance, and where known the band of untrained models. Orange: the saturating law "
        "of the score with a training voice.",
        tuple(panels),
        () if panels else (_NO_SCORES,),
    )


def _scores_against_loss(study: StudyResults) -> Figure:
    panels = _score_panels(study, charts.score_against_loss, score_by_loss)
    return Figure(
        "scores-against-loss",
        "Scores against test loss",
        f"The same scores; loss falls to the right, so better models are on the right. {_VOICES} Orange: "
        "the law of the score with a training voice, saturating if that could be fitted, else linear.",
        tuple(panels),
        () if panels else (_NO_SCORES,),
    )


def _score_panels(
    study: StudyResults,
    chart: Callable[[pl.DataFrame, pl.DataFrame, pl.DataFrame, Sequence[float]], alt.LayerChart],
    curve: Callable[[StudyResults, str, str], pl.DataFrame],
) -> list[alt.LayerChart]:
    """One panel per task and series: the scores, and the fitted curve of their law."""
    scores = main_scores(study)
    return [
        _with_series_title(
            chart(rows, scores, curve(study, series, rows["task"][0]), _sizes(study)), study, series
        )
        for series, rows in _facets(study, scores)
    ]


def _series_bits(study: StudyResults) -> Figure:
    runs = study.done.filter(pl.col("bits_per_second").is_not_null())
    once = single_epoch_runs(runs).sort("series", "flops")
    least = once.filter(pl.col("bits_per_second") <= pl.col("bits_per_second").cum_min().over("series"))
    comparable = runs["series"].n_unique() > 1
    return Figure(
        "series-bits",
        "Series against series: loss per second of audio",
        "Tokens of different series carry different amounts of speech, so a second of audio is what can be compared: "
        "the bits that a model of each series needs to encode it. Lines: the least reached for the "
        "compute by runs that saw their data once.",
        (charts.series_bits_against_compute(runs, least, study.series),) if comparable else (),
        () if comparable else ("Fewer than two series know how long their test audio is.",),
        key="series",
    )


def _series_scores(study: StudyResults) -> Figure:
    every = main_scores(study)
    several = (
        every.group_by("task", "condition").agg(pl.col("series").n_unique() > 1).filter(pl.col("series"))
    )
    every = every.join(several, on=["task", "condition"], how="semi")
    panels = []
    for task in tasks_in_order(every):
        for condition, voices in formatting.CONDITIONS.items():
            rows = every.filter((pl.col("task") == task) & (pl.col("condition") == condition))
            if rows.height:
                name = task if condition == "seen" else f"{task}{UNSEEN}"
                laws = [
                    score_by_compute(study, series, name).with_columns(series=pl.lit(series))
                    for series in study.series
                ]
                panel = charts.series_scores_against_compute(rows, every, pl.concat(laws), study.series)
                panels.append(panel.properties(title=f"{formatting.short_task(task)} · {voices}"))
    return Figure(
        "series-scores",
        "Series against series: scores",
        "The same items for every series, each in its own way: spoken, written, or as other tokens. Bars: 95 % "
        "intervals over items. Dashed: the saturating law of each series. Grey: chance, and where known the band of "
        "untrained models.",
        tuple(panels),
        () if panels else ("No score was taken of two series.",),
        key="series",
    )


def _phenomena(study: StudyResults) -> Figure:
    scores = study.scores.filter(pl.col("task").str.contains(PHENOMENON_SEPARATOR, literal=True))
    panels, names = [], []
    for series in study.series:
        series_scores = scores.filter(pl.col("series") == series)
        if series_scores.height:
            run = largest_run(series_scores)
            names.append(
                f"{run['run']} (N = {formatting.quantity(run['params'])}, D = {formatting.quantity(run['tokens'])})"
            )
            panel = charts.phenomena(series_scores.filter(pl.col("run") == run["run"]))
            panels.append(_with_series_title(panel, study, series))
    return Figure(
        "phenomena",
        "Grammar, phenomenon by phenomenon",
        f"Minimal pairs at the run with most compute, {formatting.listed(names)}. {_VOICES} Bars: 95 % intervals "
        "over items. Dashed: chance."
        if names
        else "Minimal pairs at the run with most compute.",
        tuple(panels),
        () if panels else ("No scores of single phenomena are in the runs table.",),
        key=None,
    )


def _time(study: StudyResults) -> Figure:
    stages = study.about.stages if study.about else []
    table = pl.DataFrame(
        {
            "name": [stage.name for stage in stages],
            "seconds": [stage.seconds for stage in stages],
            "detail": [stage.detail for stage in stages],
        },
        schema={"name": pl.String, "seconds": pl.Float64, "detail": pl.String},
    )
    return Figure(
        "time",
        "How the time was spent",
        f"Wall clock of each stage, {formatting.duration(sum(table['seconds']))} in all."
        if stages
        else "Wall clock of each stage.",
        (charts.time_by_stage(table),) if stages else (),
        () if stages else ("study.json does not say how long its stages took.",),
        key=None,
    )


_VOICES = "Filled circles: a voice of the training data; hollow diamonds: voices never heard in training."
_NO_SCORES = (
    "No scores are in the runs table, so there is nothing to draw; `speechscale eval run` makes them."
)


def _facets(study: StudyResults, scores: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Series and rows of every facet: one a task and series."""
    facets = [
        (series, scores.filter((pl.col("task") == task) & (pl.col("series") == series)))
        for task in tasks_in_order(scores)
        for series in study.series
    ]
    return [(series, rows) for series, rows in facets if rows.height]


def _with_series_title(panel: alt.LayerChart, study: StudyResults, series: str) -> alt.LayerChart:
    """The panel with its series in the title, where a study has more than one."""
    if len(study.series) == 1:
        return panel
    title = panel.title if isinstance(panel.title, str) else ""
    return panel.properties(title=f"{title} · {series}".removeprefix(" · "))


def _sizes(study: StudyResults) -> list[float]:
    return study.done["params"].to_list()


def _missing_law_sentences(study: StudyResults, series: str, part: str) -> list[str]:
    reason = study.missing(series).get(part)
    return [f"{formatting.PARTS[part]} of {series!r} is missing: {reason}"] if reason else []


def _thin(curves: pl.DataFrame) -> pl.DataFrame:
    """A part of the evaluations of each curve, the last one included, where there are too many for a page."""
    stride = -(-curves.height // _MAX_CURVE_POINTS)
    if stride <= 1:
        return curves
    from_last = pl.int_range(pl.len()).reverse().over("run")
    return curves.filter(from_last % stride == 0)


def render(whole: VegaSpec, kind: str) -> bytes | str:
    """A Vega-Lite specification as the content of a file of one of `FORMATS`."""
    import vl_convert

    version = library_version()
    if kind == "svg":
        return vl_convert.vegalite_to_svg(whole, vl_version=version)
    if kind == "pdf":
        return vl_convert.vegalite_to_pdf(whole, vl_version=version)
    return vl_convert.vegalite_to_png(whole, vl_version=version, scale=_PNG_SCALE)
