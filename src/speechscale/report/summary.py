"""The findings of a study as sentences, computed from its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import polars as pl

from speechscale.records.law_sections import EfficiencyRatio, Missing
from speechscale.report import formatting
from speechscale.report.comparison import efficiency_comparisons
from speechscale.report.figures import largest_run, main_scores, tasks_in_order
from speechscale.report.folder import StudyResults

VANISHED_IRREDUCIBLE_LOSS = (
    1e-3  # nats/token; a fitted E below this has vanished, and its interval is not informative
)
MIN_ITEMS = 30  # of a score, below which two scores are not compared
SAME_TOKENS_FACTOR = 1.1  # two runs whose D differ by less than this factor are compared as if at the same D

_VOICES = {"seen": "a training voice", "unseen": "voices that are not in the training data"}
_NO_FINDING = (
    "not identified",
    "exponent at bound",
    "one value",
)  # checks of a law without exponents of its own
_RELATIONS = {
    "above": "above chance with the whole 95 % interval:",
    "at": "not distinguishable from chance:",
    "untrained": "within what untrained models score:",
    "below": "below chance with the whole 95 % interval:",
    "unknown": "without an interval, so not judged:",
}


def findings(study: StudyResults) -> list[str]:
    """The sentences at the top of the page."""
    sentences = [_extent(study)]
    for series in study.series:
        runs = study.done.filter(pl.col("series") == series)
        prefix = f"In the series {series!r}: " if len(study.series) > 1 else ""
        sentences.append(prefix + _best(runs))
        sentences.append(_loss_trends(runs))
        sentences += _law(study, series) + _envelope(study, series)
        scores = main_scores(study).filter(pl.col("series") == series)
        sentences += _against_chance(scores) + _growth(scores) + _emergence(study, scores)
    return sentences + _efficiency(study)


def _extent(study: StudyResults) -> str:
    runs, lost = study.done, study.runs.height - study.done.height
    unfinished = (
        f" {lost} more diverged or failed and {'is' if lost == 1 else 'are'} listed below." if lost else ""
    )
    return (
        f"{_count_noun(runs.height, 'model')} of {_span(runs['params'])} parameters (N, non-embedding), trained "
        f"on {_span(runs['tokens'])} tokens (D, seen, repeats counted), were tested on held-out utterances."
        f"{unfinished}"
    )


def _best(runs: pl.DataFrame) -> str:
    best = runs.sort("loss").row(0, named=True)
    error = f" ± {best['loss_se']:.4f} (standard error)" if best["loss_se"] is not None else ""
    rate = f", or {best['bits_per_second']:.1f} bits per second of audio" if best["bits_per_second"] else ""
    return (
        f"The best model is {best['run']} (N = {formatting.quantity(best['params'])}, "
        f"D = {formatting.quantity(best['tokens'])}, {formatting.power(best['flops'])} FLOPs as 6ND): "
        f"its test loss is {formatting.loss(best['loss'])}{error} nats/token{rate}."
    )


def _loss_trends(runs: pl.DataFrame) -> str:
    """Whether loss falls with D at the same N, and with N at about the same D, counted step by step."""
    ladder = list(runs.sort("params", "tokens").select("params", "tokens", "loss").iter_rows())
    with_data = [
        much[2] < little[2]
        for little, much in pairwise(ladder)
        if little[0] == much[0] and much[1] > SAME_TOKENS_FACTOR * little[1]
    ]
    with_size = [
        large[2] < small[2]
        for small, large in product(ladder, repeat=2)
        if large[0] > small[0] and max(large[1], small[1]) < SAME_TOKENS_FACTOR * min(large[1], small[1])
    ]
    return (
        f"{_loss_trend(with_data, 'D at the same N', 'No size was trained with two budgets')} "
        f"{_loss_trend(with_size, 'N at about the same D (within 10 %)', 'No two sizes share a D')}"
    )


def _loss_trend(steps: list[bool], along: str, none: str) -> str:
    if not steps:
        return f"{none}, so the runs alone do not say whether loss falls with {along}."
    if all(steps):
        return f"Loss falls with {along}, in all of {_count_noun(len(steps), 'comparison')}."
    return f"Loss falls with {along} in {sum(steps)} of {_count_noun(len(steps), 'comparison')}."


def _law(study: StudyResults, series: str) -> list[str]:
    fitted = study.single_epoch(series)
    if isinstance(fitted, Missing):
        return [f"The law {formatting.LAW} is missing: {fitted.missing}"]
    if not fitted.converged:
        return [f"The fit of {formatting.LAW} did not converge, so its parameters are not a result."]
    params, intervals, split = fitted.params, fitted.interval95, fitted.allocation
    irreducible = f"an irreducible loss E = {formatting.estimate(params.E, intervals.E)} nats/token"
    if params.E < VANISHED_IRREDUCIBLE_LOSS:
        irreducible = "no irreducible loss E that these runs can tell from zero"
    alpha = formatting.estimate(params.alpha, intervals.alpha)
    beta = formatting.estimate(params.beta, intervals.beta)
    content = study.series_law(series)
    checks = [] if isinstance(content, Missing) else content.checks
    if any(check.check in _NO_FINDING for check in checks):
        return [
            f"The runs that saw their data once do not determine the exponents of {formatting.LAW} (α = {alpha}, "
            f"β = {beta}), so neither they nor a best split of a budget are a finding; the laws below say why."
        ]
    sentence = (
        f"The law {formatting.LAW}, fitted to the runs that saw their data once, gives "
        f"α = {alpha}, β = {beta} "
        f"and {irreducible}."
    )
    a, b = formatting.estimate(split.a, split.interval95.a), formatting.estimate(split.b, split.interval95.b)
    return [f"{sentence} A budget C is then best split as N ∝ Cᵃ and D ∝ Cᵇ with a = {a} and b = {b}."]


def _envelope(study: StudyResults, series: str) -> list[str]:
    fitted = study.envelope(series)
    if isinstance(fitted, Missing):
        return []  # its figure says why
    gamma = formatting.estimate(fitted.params.gamma, fitted.interval95.gamma)
    return [f"The least loss reached for a compute C falls as Cᵞ with γ = {gamma}."]


def _against_chance(scores: pl.DataFrame) -> list[str]:
    """Which scores of the largest run are above chance with their whole interval, and which are not."""
    if scores.is_empty():
        return []
    run = largest_run(scores)
    rows = scores.filter(pl.col("run") == run["run"]).sort("accuracy", descending=True)
    spoken = rows["condition"].n_unique() > 1  # what is written has no voice
    return [
        f"At the run with most compute, {run['run']}{f', with {label}' * spoken}: {_group_by_relation(of_condition)}."
        for condition, label in _VOICES.items()
        if (of_condition := rows.filter(pl.col("condition") == condition)).height
    ]


def _group_by_relation(scores: pl.DataFrame) -> str:
    groups: dict[str, list[str]] = {}
    for row in scores.iter_rows(named=True):
        groups.setdefault(relation_to_chance(row), []).append(
            f"{formatting.short_task(row['task'])} {_score(row)}"
        )
    return "; ".join(
        f"{label} {formatting.listed(groups[at])}" for at, label in _RELATIONS.items() if at in groups
    )


def _growth(scores: pl.DataFrame) -> list[str]:
    """Scores of the runs with least and with most compute, with their intervals; only where there are enough items."""
    scores = scores.filter(pl.col("condition") == "seen").sort("flops")
    steps = []
    for task in tasks_in_order(scores):
        rows = scores.filter((pl.col("task") == task) & pl.col("low").is_not_null())
        rows = rows.filter(pl.col("items").fill_null(0) >= MIN_ITEMS)
        if rows.height > 1:
            first, last = (_score(rows.row(at, named=True)) for at in (0, -1))
            steps.append(f"{formatting.short_task(task)} from {first} to {last}")
    return (
        [f"From the run with least compute to the one with most, {formatting.listed(steps)}."]
        if steps
        else []
    )


def _emergence(study: StudyResults, scores: pl.DataFrame) -> list[str]:
    """What the law expects of the scores that the largest run leaves at chance."""
    if scores.is_empty():
        return []
    rows = scores.filter((pl.col("run") == largest_run(scores)["run"]) & (pl.col("condition") == "seen"))
    sentences = []
    for row in rows.iter_rows(named=True):
        fitted = study.score_law(row["series"], row["task"])
        if relation_to_chance(row) in ("at", "untrained") and fitted is not None:
            expected = fitted.missing if isinstance(fitted, Missing) else fitted.emergence.message
            sentences.append(f"{formatting.short_task(row['task'])} stays at chance; {expected.rstrip('.')}.")
    return sentences


def _efficiency(study: StudyResults) -> list[str]:
    """Ratios of the efficiency exponents of two series, for every score."""
    return [
        f"{pair.name}, {pair.series} against {pair.reference}: the ratio of exponents is {pair.ratio}; "
        f"{_meaning(pair.found)}."
        for pair in efficiency_comparisons(study)
        if isinstance(pair.found, EfficiencyRatio)
    ]


def _meaning(found: EfficiencyRatio) -> str:
    """What a ratio says; one whose interval holds 1 does not say which series is the faster."""
    low, high = found.interval95 or (0.0, math.inf)
    if not low <= 1 <= high:
        return found.message
    return f"{found.message}. These runs do not tell which of the two is the faster"


def relation_to_chance(score: Mapping[str, Any]) -> str:
    """Whether the whole interval of a score is "above", "below" or "at" chance; "unknown" without an interval.

    "untrained" where untrained models of the same shape were scored, and may well reach the score.
    """
    if score.get("null_low") is not None and score["null_low"] <= score["accuracy"] <= score["null_high"]:
        return "untrained"
    if score["low"] is None or score["high"] is None:
        return "unknown"
    if score["low"] > score["chance"]:
        return "above"
    return "below" if score["high"] < score["chance"] else "at"


def _score(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return formatting.share(row["accuracy"])
    return f"{formatting.share(row['accuracy'])} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _span(values: pl.Series) -> str:
    low, high = formatting.quantity(values.min()), formatting.quantity(values.max())  # type: ignore[arg-type]
    return low if low == high else f"{low} to {high}"


def _count_noun(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
