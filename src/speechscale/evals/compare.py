"""Paired comparison of two models: difference of accuracies, interval, and sign-flip permutation test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.evals.accuracy import cluster_names
from speechscale.evals.clusters import VarianceEstimate, clustered_variance, find_clusters
from speechscale.evals.conventions import with_correct
from speechscale.records.scores import Convention

_SIGN_DRAWS = 20_000  # resolves p to about 0.001 near 0.05
_MOST_EXACT_ITEMS = 14  # differing items up to which all patterns of signs are enumerated
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Accuracy of the first model minus that of the second, paired by item, with its 95 % interval."""

    task: str
    condition: str
    difference: float
    low: float
    high: float
    p: float  # two-sided, of the sign-flip permutation test over items
    items: int
    pairs: int


def paired_differences(
    first: pl.DataFrame, second: pl.DataFrame, convention: Convention
) -> list[PairedDifference]:
    """Differences of every task and condition in both score tables, over the pairs with a score in both.

    The null hypothesis exchanges the two models item by item, which flips the sign of the item's difference. With one
    pair per item and no phenomena this is McNemar's exact test. Items that share a contrast or a template are exchanged
    together, by the way of clusters that moves the difference more.

    Raises:
        UserError: no pair is in both tables, or a pair is twice in one table.
    """
    keys = ["task", "condition", "pair_id"]
    for table in (first, second):
        repeated = table.filter(pl.struct(keys).is_duplicated())
        if repeated.height:
            raise UserError(
                f"{repeated['task'][0]}/{repeated['pair_id'][0]}: is in one score table twice; score again."
            )
    left = with_correct(first, convention).drop_nulls("correct")
    right = with_correct(second, convention).drop_nulls("correct")
    both = left.join(right.select(*keys, pl.col("correct").alias("correct_second")), on=keys)
    if not both.height:
        raise UserError(
            "the two score tables have no pair in common; were the models scored on the same shards?"
        )
    both = both.with_columns(difference=pl.col("correct") - pl.col("correct_second"))
    return [
        _paired_difference(str(task), str(condition), table, convention)
        for (task, condition), table in sorted(both.group_by("task", "condition"), key=lambda pair: pair[0])
    ]


def _paired_difference(
    task: str, condition: str, table: pl.DataFrame, convention: Convention
) -> PairedDifference:
    item = ["phenomenon", "group_id"]
    grouped = table.sort("pair_id").group_by(item)
    items = grouped.agg(pl.col("difference").sum(), *cluster_names(), pairs=pl.len()).sort(item)
    if convention.voices == "mean":
        items = items.with_columns(pl.col("difference") / pl.col("pairs"), pairs=pl.lit(1.0))
    macro = convention.headline == "macro"
    strata = items["phenomenon"] if macro else pl.repeat("", items.height, eager=True)
    _, stratum = np.unique(strata.to_numpy(), return_inverse=True)
    differences, pairs = items["difference"].to_numpy(), items["pairs"].to_numpy().astype(float)
    pairs_per_stratum = np.bincount(stratum, weights=pairs)
    means = np.bincount(stratum, weights=differences) / pairs_per_stratum
    residuals = (differences - means[stratum] * pairs) / pairs_per_stratum[stratum] / len(means)
    contributions = differences / pairs_per_stratum[stratum] / len(means)
    mean = float(means.mean())
    clusters = find_clusters(items["contrast"].to_numpy(), items["template"].to_numpy())
    variance = VarianceEstimate(float((residuals**2).sum()))
    if clusters.single:
        variance = VarianceEstimate(1.0, freedom=0)
        contributions = contributions.sum(keepdims=True)
    elif clusters.ways:
        weights = pairs / pairs_per_stratum[stratum] / len(means)
        variance = clustered_variance(residuals, weights, clusters.ways)
        sums = [np.bincount(way, weights=contributions).astype(float) for way in clusters.ways]
        contributions = max(sums, key=lambda values: float(values @ values))
    half = variance.quantile * math.sqrt(variance.variance)
    return PairedDifference(
        task=task,
        condition=condition,
        difference=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        p=_sign_flip_p_value(contributions),
        items=items.height,
        pairs=table.height,
    )


def _sign_flip_p_value(contributions: np.ndarray) -> float:
    """Probability that contributions with random signs sum to at least the observed absolute value.

    Args:
        contributions: of items or clusters, float64 [items], which sum to the observed difference.
    """
    contributions = contributions[contributions != 0]
    if not len(contributions):
        return 1.0
    observed = abs(contributions.sum()) * (1 - 1e-9)
    if len(contributions) <= _MOST_EXACT_ITEMS:
        signs = (np.arange(2 ** len(contributions))[:, None] >> np.arange(len(contributions)) & 1) * 2 - 1
        return float((np.abs(signs @ contributions) >= observed).mean())
    rng = np.random.default_rng(_SEED)
    as_extreme = 0
    for _ in range(_SIGN_DRAWS // 1000):
        signs = rng.integers(0, 2, (1000, len(contributions)), dtype=np.int8) * 2 - 1
        as_extreme += int((np.abs(signs @ contributions) >= observed).sum())
    return (as_extreme + 1) / (_SIGN_DRAWS + 1)  # Monte Carlo: one is added to both counts
