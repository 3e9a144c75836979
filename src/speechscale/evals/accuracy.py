"""Accuracies with 95 % intervals from per-item scores, by a convention.

The sampled unit is the item (group), whose voices and conditions are repetitions, or the cluster of items that share a
contrast or a template. An accuracy is a ratio of sums over items, with the variance of such a ratio (Taylor
linearisation, the cluster "sandwich"). The variance gives an effective number of independent answers, and this number
Wilson's interval, which is within [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from speechscale.evals.clusters import (
    Clusters,
    VarianceEstimate,
    cluster_sums,
    clustered_variance,
    effective_clusters,
    find_clusters,
    intersections,
    satterthwaite,
)
from speechscale.evals.conventions import PRESETS, with_correct
from speechscale.records.runs import Score
from speechscale.records.scores import Convention, TaskAccuracy, headlines

# Frequency bands of sWUGGY, cut as in the official code; their names promise one more at either end.
BANDS = {"oov": (0, 1), "1-5": (1, 5), "6-20": (5, 20), "21-100": (20, 100), ">100": (100, math.inf)}


@dataclass(frozen=True)
class ItemAnswers:
    """Answers per item: the sum over its pairs, the number of its pairs, and the clusters that it belongs to."""

    correct: np.ndarray  # float64 [items]
    pairs: np.ndarray  # float64 [items]
    contrasts: np.ndarray | None = None  # str [items]; None: each item has its own
    templates: np.ndarray | None = None  # str [items]; None: each item has its own

    @property
    def accuracy(self) -> float:
        """Share of the pairs that are answered correctly."""
        return float(self.correct.sum() / self.pairs.sum())

    @cached_property
    def clusters(self) -> Clusters:
        """How contrasts and templates divide the items."""
        return find_clusters(self.contrasts, self.templates)

    @property
    def weights(self) -> np.ndarray:
        """Share of each item in the accuracy, float64 [items]."""
        return np.asarray(self.pairs / self.pairs.sum())

    @property
    def residuals(self) -> np.ndarray:
        """Deviation of each item from the accuracy times its weight, float64 [items]."""
        return np.asarray((self.correct - self.accuracy * self.pairs) / self.pairs.sum())

    @cached_property
    def effective_sample_size(self) -> float:
        """Number of independent answers with the same variance.

        Where the variance is 0, it is the number of clusters if all answers agree, else the number of items. Where each
        item is a cluster, it is at most the number of their pairs.
        """
        return self._effective[0]

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance; infinite where items are independent answers, 0 where all are one."""
        return self._effective[1]

    @cached_property
    def _effective(self) -> tuple[float, float]:
        if self.clusters.single:
            return 1.0, 0.0
        odds = self.accuracy * (1 - self.accuracy)
        ways = self.clusters.ways
        if not ways:
            variance = float(((self.correct - self.accuracy * self.pairs) ** 2).sum() / self.pairs.sum() ** 2)
            most = float(self.pairs.sum())
            return (min(odds / variance, most) if variance else float(len(self.correct))), math.inf
        estimate = clustered_variance(self.residuals, self.weights, ways)
        if not odds:
            return effective_clusters(self.weights, ways), estimate.freedom
        count = odds / estimate.variance if estimate.variance else float(len(self.correct))
        return count, estimate.freedom


def headline_scores(scores: pl.DataFrame, convention: Convention = PRESETS["official"]) -> dict[str, Score]:
    """The scores of a runs table by name, `task` or `task.part`.

    A condition is appended (`_unseen`, `_test`) unless it is the usual one: none, voices heard in training, or the
    split with public answers. So `sblimp` is one column for speech and text. Parts are phenomena, where a task has
    several, and frequency bands. Pairs without scores are left out; `unscored_pairs` names them.
    """
    found = headlines(task_accuracies(scores, convention), convention)
    return {name: each.score for name, each in found.items()}


def task_accuracies(scores: pl.DataFrame, convention: Convention) -> list[TaskAccuracy]:
    """Accuracies of every task and condition: macro over several phenomena, micro, and parts."""
    answered = with_correct(scores, convention).filter(pl.col("correct").is_not_null())
    return [
        each
        for (task, condition), of_task in sorted(
            answered.group_by("task", "condition"), key=lambda group: group[0]
        )
        for each in _accuracies_of(str(task), str(condition), of_task, convention)
    ]


def _accuracies_of(
    task: str, condition: str, answered: pl.DataFrame, convention: Convention
) -> Iterator[TaskAccuracy]:
    def accuracy(part: str, mean_over: str, score: Score) -> TaskAccuracy:
        return TaskAccuracy(
            task=task, condition=condition, part=part, mean_over=mean_over, **score.model_dump()
        )

    micro = "pairs" if convention.voices == "pairs" else "items"
    phenomena = {
        str(name): _item_answers(part, convention)
        for (name,), part in sorted(answered.group_by("phenomenon"), key=lambda group: group[0])
    }
    if len(phenomena) > 1:
        yield accuracy("", "phenomena", macro_accuracy(list(phenomena.values())))
    yield accuracy("", micro, micro_accuracy(_item_answers(answered, convention)))
    if len(phenomena) > 1:
        for name, answers in phenomena.items():
            yield accuracy(name, micro, micro_accuracy(answers))
    known = answered.filter(pl.col("frequency").is_not_null())
    if known.height:
        parts = {"in_vocabulary": (1.0, math.inf), **BANDS}
        for name, (low, high) in parts.items():
            part = known.filter((pl.col("frequency") >= low) & (pl.col("frequency") < high))
            if part.height:
                yield accuracy(name, micro, micro_accuracy(_item_answers(part, convention)))


def _item_answers(answered: pl.DataFrame, convention: Convention) -> ItemAnswers:
    """Answers per item; where voices are averaged first, an item counts once. Its first pair states its clusters."""
    item = ["phenomenon", "group_id"]
    items = (
        answered.sort("pair_id")
        .group_by(item)
        .agg(pl.col("correct").sum(), *cluster_names(), pairs=pl.len())
        .sort(item)
    )
    correct, pairs = items["correct"].to_numpy(), items["pairs"].to_numpy().astype(float)
    if convention.voices != "pairs":
        correct, pairs = correct / pairs, np.ones(len(pairs))
    return ItemAnswers(correct, pairs, items["contrast"].to_numpy(), items["template"].to_numpy())


def cluster_names() -> list[pl.Expr]:
    """Contrast and template of an item, as aggregates over its pairs; a name of its own where none is known."""
    own = pl.concat_str(pl.lit("\0"), "phenomenon", "group_id", separator="/").first()
    return [pl.col(name).replace("", None).first().fill_null(own) for name in ("contrast", "template")]


def micro_accuracy(answers: ItemAnswers) -> Score:
    """Mean over all items or pairs, with its Wilson (1927) score interval.

    With clusters the quantile is that of t, because their variance is estimated.
    """
    mean, count = answers.accuracy, answers.effective_sample_size
    low, high = _wilson(mean, count, VarianceEstimate(0.0, answers.freedom).quantile)
    items = len(answers.correct)
    return Score(accuracy=mean, low=low, high=high, items=items, effective_items=count)


def _wilson(mean: float, count: float, quantile: float) -> tuple[float, float]:
    if math.isinf(quantile):
        return 0.0, 1.0
    centre = (mean + quantile**2 / (2 * count)) / (1 + quantile**2 / count)
    spread = math.sqrt(mean * (1 - mean) / count + quantile**2 / (4 * count**2))
    half = quantile / (1 + quantile**2 / count) * spread
    return max(0.0, centre - half), min(1.0, centre + half)


def macro_accuracy(phenomena: list[ItemAnswers]) -> Score:
    """Mean over phenomena, with an interval from the items within them, which are what was sampled."""
    mean = sum(answers.accuracy for answers in phenomena) / len(phenomena)
    parts = [_adjusted_variance(answers, 4 / len(phenomena)) for answers in phenomena]
    within = sum(part.variance for part in parts)
    variance = within + _covariance(phenomena)
    if variance <= 0:
        variance = within
    half = VarianceEstimate(variance, satterthwaite(parts, variance)).quantile * math.sqrt(
        variance / len(phenomena) ** 2
    )
    answered = sum(answers.effective_sample_size for answers in phenomena)
    shrunk = (mean * answered + 2) / (answered + 4)
    return Score(
        accuracy=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        items=sum(len(answers.correct) for answers in phenomena),
        effective_items=shrunk * (1 - shrunk) / (variance / len(phenomena) ** 2),
    )


def _adjusted_variance(answers: ItemAnswers, added: float) -> VarianceEstimate:
    """Variance of an accuracy with `added` pseudo-answers, half of them correct; above 0 where every item is correct.

    Agresti & Coull 1998 add four in all. The variance of a single answer is not estimated: it is 1/4 at most.
    """
    if answers.clusters.single:
        return VarianceEstimate(0.25)
    count = answers.effective_sample_size + added
    estimate = (answers.accuracy * answers.effective_sample_size + added / 2) / count
    return VarianceEstimate(estimate * (1 - estimate) / count, answers.freedom)


def _covariance(phenomena: Sequence[ItemAnswers]) -> float:
    """Sum of the covariances of accuracies of different phenomena, whose items share contrasts or templates."""
    contrasts, templates = (
        _names_across([getattr(answers, name) for answers in phenomena], phenomena)
        for name in ("contrasts", "templates")
    )
    ways = find_clusters(contrasts, templates).ways
    total = sum(_covariance_of_sums(phenomena, way) for way in ways)
    return total - _covariance_of_sums(phenomena, intersections(*ways)) if len(ways) == 2 else total


def _covariance_of_sums(phenomena: Sequence[ItemAnswers], clusters: np.ndarray) -> float:
    """Covariances by the products of cluster sums of different phenomena.

    Args:
        phenomena: their answers.
        clusters: of all their items, one phenomenon after the other, int64 [items].
    """
    bounds = np.cumsum([len(answers.correct) for answers in phenomena])[:-1]
    sums = np.zeros((len(phenomena), int(clusters.max()) + 1))
    for row, answers, own in zip(sums, phenomena, np.split(clusters, bounds), strict=True):
        found = cluster_sums(answers.residuals, answers.weights, own)
        row[: len(found)] = found
    return float((sums.sum(axis=0) ** 2).sum() - (sums**2).sum())


def _names_across(names: Sequence[np.ndarray | None], phenomena: Sequence[ItemAnswers]) -> np.ndarray | None:
    """Names of the clusters of all items, one phenomenon after the other; None where no phenomenon has any."""
    if all(found is None for found in names):
        return None
    return np.concatenate(
        [
            np.array([f"\0{number}/{item}" for item in range(len(answers.correct))])
            if found is None
            else found
            for number, (found, answers) in enumerate(zip(names, phenomena, strict=True))
        ]
    )
