"""Bands of the scores of untrained models."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from speechscale.records.null_scores import NullBand
from speechscale.records.scores import TaskAccuracy


def null_bands(models: Sequence[Sequence[TaskAccuracy]]) -> tuple[NullBand, ...]:
    """The prediction interval of every accuracy: where 95 % of further untrained models score.

    Args:
        models: the accuracies of each untrained model; two models or more.
    """
    values: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for accuracies in models:
        for each in accuracies:
            values[each.task, each.condition, each.part, each.mean_over].append(each.accuracy)
    return tuple(_band(*key, accuracies=found) for key, found in values.items())


def _band(task: str, condition: str, part: str, mean_over: str, *, accuracies: list[float]) -> NullBand:
    count = len(accuracies)
    mean, sd = float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))
    half = float(stdtrit(count - 1, 0.975)) * sd * math.sqrt(1 + 1 / count)
    return NullBand(
        task=task,
        condition=condition,
        part=part,
        mean_over=mean_over,
        mean=mean,
        sd=sd,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
    )
