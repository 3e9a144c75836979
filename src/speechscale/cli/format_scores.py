"""Lines in which commands print scores, comparisons and published scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechscale.evals.published_scores import PublishedScore
    from speechscale.jobs.evaluate import Comparison, Evaluation
    from speechscale.records.null_scores import NullScores
    from speechscale.records.scores import TaskAccuracy


def evaluation_lines(evaluation: Evaluation, null: NullScores | None = None) -> Iterator[str]:
    """Warnings, the convention, and every accuracy with its interval and the band of untrained models."""
    file = evaluation.file
    for warning in filter(None, (file.not_scored_note, *file.warnings)):
        yield f"{warning}."
    convention, tokens = file.convention, file.tokens
    before = "no token before the first" if tokens.before_first is None else f"{tokens.before_first} before"
    yield (
        f"convention {convention.preset}: {convention.nll} NLL, {before}, closing {tokens.closing} "
        f"{'' if convention.terminal else 'not '}scored, ties {convention.ties}, given {convention.given}, "
        f"voices {convention.voices}"
    )
    if evaluation.existing_tasks:
        yield f"scored before: {', '.join(evaluation.existing_tasks)}"
    if null:
        yield f"untrained: 95 % of models of this shape without training score so, by {null.models} of them"
    for each in file.scores:
        yield _accuracy_line(each) + _null_words(each, null)


def comparison_lines(evaluation: Evaluation, comparison: Comparison) -> Iterator[str]:
    """Paired differences to another model, of every task."""
    yield f"\n{evaluation.model} minus {comparison.path}, paired by item (sign-flip permutation test):"
    here, both = evaluation.table.height, sum(each.pairs for each in comparison.differences)
    if max(here, comparison.pairs) > both:
        yield f"{here} pairs here, {comparison.pairs} there, of which only {both} have a score in both."
    for each in comparison.differences:
        name = each.task + (f" ({each.condition})" if each.condition else "")
        yield (
            f"{name:<40} {each.difference:+6.3f}  [{each.low:+.3f}, {each.high:+.3f}]  p = {each.p:.4f}, "
            f"{each.items} items"
        )


def published_lines(published: Sequence[PublishedScore]) -> Iterator[str]:
    """A table of published scores in percent, each with its convention and source."""
    titles = ("NLL", "before first", "closing token", "ties", "sBLIMP mean over")
    yield f"\n{'published, in percent':<24} sBLIMP    tSC    sSC  {'; '.join(titles)}; source"
    for each in published:
        numbers = (
            f"{value:6.1f}" if value else "     -"
            for value in (each.sblimp, each.tstorycloze, each.sstorycloze)
        )
        yield f"{each.system:<24} {' '.join(numbers)}  {'; '.join(astuple(each.convention))}; {each.source}"


def _null_words(each: TaskAccuracy, null: NullScores | None) -> str:
    band = null.band_of(each) if null else None
    if band is None:
        return ""
    inside = ", within what untrained models score" if band.contains(each.accuracy) else ""
    return f", untrained [{band.low:.3f}, {band.high:.3f}]{inside}"


def _accuracy_line(each: TaskAccuracy) -> str:
    name = ".".join(filter(None, (each.task, each.part))) + (f" ({each.condition})" if each.condition else "")
    mean_over = f"mean over {each.mean_over}, " if each.mean_over else ""
    effective = "" if each.effective_items is None else f" ({each.effective_items:.0f} effective)"
    return (
        f"{name:<40} {each.accuracy:6.3f}  [{each.low:.3f}, {each.high:.3f}]  "
        f"{mean_over}{each.items} items{effective}, chance {each.chance:g}"
    )
