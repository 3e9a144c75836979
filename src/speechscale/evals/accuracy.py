"""Accuracies with 95 % intervals from per-item scores, by a convention.

The sampled unit is the item (group): its voices and conditions are repetitions. An accuracy is a ratio of sums over
items, with the variance of such a ratio (Taylor linearisation, the cluster "sandwich"). The variance gives an effective
number of independent answers, and this number Wilson's interval, which is within [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from speechscale.evals.conventions import PRESETS, with_correct
from speechscale.records.runs import Score
from speechscale.records.scores import Convention, TaskAccuracy

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
# Frequency bands of sWUGGY, cut as in the official code; their names promise one more at either end.
BANDS = {"oov": (0, 1), "1-5": (1, 5), "6-20": (5, 20), "21-100": (20, 100), ">100": (100, math.inf)}
_DEFAULT_CONDITIONS = ("", "seen", "dev")  # conditions that the name of a score omits


@dataclass(frozen=True)
class ItemAnswers:
    """Answers per item: the sum over its pairs, and the number of its pairs."""

    correct: np.ndarray  # float64 [items]
    pairs: np.ndarray  # float64 [items]

    @property
    def accuracy(self) -> float:
        """Share of the pairs that are answered correctly."""
        return float(self.correct.sum() / self.pairs.sum())

    @property
    def effective_sample_size(self) -> float:
        """Number of independent answers with the same variance; the number of items where all answers agree."""
        variance = ((self.correct - self.accuracy * self.pairs) ** 2).sum() / self.pairs.sum() ** 2
        if variance == 0:
            return float(len(self.correct))
        return float(min(self.accuracy * (1 - self.accuracy) / variance, self.pairs.sum()))


def headline_scores(scores: pl.DataFrame, convention: Convention = PRESETS["official"]) -> dict[str, Score]:
    """The scores of a runs table by name, `task` or `task.part`.

    A condition is appended (`_unseen`, `_test`) unless it is the usual one: none, voices heard in training, or the
    split with public answers. So `sblimp` is one column for speech and text. Parts are phenomena, where a task has
    several, and frequency bands. Pairs without scores are left out; `unscored_pairs` names them.
    """
    result: dict[str, Score] = {}
    for each in task_accuracies(scores, convention):
        name = _score_name(each)
        # The macro-average precedes the micro-average of the same name.
        if name not in result or convention.headline == "micro":
            result[name] = each.score
    return result


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
    """Answers per item; where voices are averaged first, an item counts once."""
    item = ["phenomenon", "group_id"]
    items = answered.group_by(item).agg(pl.col("correct").sum(), pairs=pl.len()).sort(item)
    correct, pairs = items["correct"].to_numpy(), items["pairs"].to_numpy().astype(float)
    if convention.voices == "pairs":
        return ItemAnswers(correct, pairs)
    return ItemAnswers(correct / pairs, np.ones(len(pairs)))


def micro_accuracy(answers: ItemAnswers) -> Score:
    """Mean over all items or pairs, with its Wilson (1927) score interval."""
    mean, count = answers.accuracy, answers.effective_sample_size
    centre = (mean + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    half = Z95 / (1 + Z95**2 / count) * math.sqrt(mean * (1 - mean) / count + Z95**2 / (4 * count**2))
    items = len(answers.correct)
    return Score(accuracy=mean, low=max(0.0, centre - half), high=min(1.0, centre + half), items=items)


def macro_accuracy(phenomena: list[ItemAnswers]) -> Score:
    """Mean over phenomena, with an interval from the items within them, which are what was sampled."""
    mean = sum(answers.accuracy for answers in phenomena) / len(phenomena)
    variance = sum(_adjusted_variance(answers, 4 / len(phenomena)) for answers in phenomena)
    half = Z95 * math.sqrt(variance / len(phenomena) ** 2)
    items = sum(len(answers.correct) for answers in phenomena)
    return Score(accuracy=mean, low=max(0.0, mean - half), high=min(1.0, mean + half), items=items)


def _adjusted_variance(answers: ItemAnswers, added: float) -> float:
    """Variance of an accuracy with `added` pseudo-answers, half of them correct; above 0 where every item is correct.

    Agresti & Coull 1998 add four in all.
    """
    count = answers.effective_sample_size + added
    estimate = (answers.accuracy * answers.effective_sample_size + added / 2) / count
    return estimate * (1 - estimate) / count


def _score_name(each: TaskAccuracy) -> str:
    part = f".{each.part}" if each.part else ""
    return f"{each.task}{part}" + ("" if each.condition in _DEFAULT_CONDITIONS else f"_{each.condition}")
