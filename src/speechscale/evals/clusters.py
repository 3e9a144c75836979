"""Variance of a mean over items that share clusters, with degrees of freedom, from the sums of the clusters.

One way: the cluster-robust "sandwich" with the scaling CR2 and the degrees of freedom of Bell and McCaffrey (2002,
Survey Methodology 28), both for items with the correlation that these have (Imbens and Kolesar 2016, Review of
Economics and Statistics 98). For G clusters of one size they are the factor G/(G - 1) and G - 1; unequal clusters count
as fewer. Two ways: the sum of both variances minus that over their intersections (Cameron, Gelbach and Miller 2011,
Journal of Business & Economic Statistics 29), with the degrees of freedom of such a sum (Satterthwaite 1946); it is at
least the smaller of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class VarianceEstimate:
    """A variance, and the degrees of freedom of its estimate: infinite where it is known, 0 where nothing is."""

    variance: float
    freedom: float = math.inf

    @property
    def quantile(self) -> float:
        """Two-sided 95 % quantile of the mean's t distribution; infinite without degrees of freedom."""
        if self.freedom == math.inf:
            return Z95
        return float(stdtrit(self.freedom, 0.975)) if self.freedom > 0 else math.inf


@dataclass(frozen=True)
class Clusters:
    """Ways in which items are divided into clusters, each with more than one cluster of more than one item.

    Attributes:
        ways: cluster of each item, int64 [items], numbered from 0; none, one or two ways.
        single: whether all items share their contrast, so that they are one answer.
    """

    ways: tuple[np.ndarray, ...] = ()
    single: bool = False


def find_clusters(contrasts: np.ndarray | None, templates: np.ndarray | None) -> Clusters:
    """The ways in which contrasts and templates divide items.

    A way in which every item is a cluster of its own says nothing beyond the items, and a template of all items is part
    of the task. Where one way only divides the clusters of the other, the other one counts.

    Args:
        contrasts: of each item, str [items]; None: each item has its own.
        templates: likewise.
    """
    ways = []
    for labels in (contrasts, templates):
        names, codes = np.unique(labels if labels is not None else np.empty(0, str), return_inverse=True)
        if len(names) == 1 and len(codes) > 1 and labels is contrasts:
            return Clusters(single=True)
        if 1 < len(names) < len(codes):
            ways.append(codes)
    if len(ways) == 2:
        both = intersections(*ways)
        finer = [
            way for way in ways if way.max() == both.max()
        ]  # each of its clusters is within one of the other
        if finer:
            ways = [ways[1] if finer[0] is ways[0] else ways[0]]
    return Clusters(tuple(ways))


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cluster of each item where items share both clusters; int64 [items]."""
    pairs = first.astype(np.int64) * (int(second.max()) + 1) + second
    return np.unique(pairs, return_inverse=True)[1]


def clustered_variance(
    residuals: np.ndarray, weights: np.ndarray, ways: Sequence[np.ndarray]
) -> VarianceEstimate:
    """Variance of a weighted mean over items with one or two ways of clusters.

    Args:
        residuals: weight times deviation of each item from the mean, float64 [items]; they sum to 0.
        weights: of each item, float64 [items]; they sum to 1.
        ways: of `Clusters`.
    """
    if len(ways) == 1:
        return _one_way(residuals, weights, ways[0])
    parts = [_one_way(residuals, weights, way) for way in ways]
    both = _one_way(residuals, weights, intersections(*ways))
    variance = sum(part.variance for part in parts) - both.variance
    # Noise can make the sum smaller than either part, or negative; the least positive part bounds it from below.
    floor = min((part for part in parts if part.variance), key=lambda part: part.variance, default=both)
    if variance < floor.variance:
        return floor
    return VarianceEstimate(variance, satterthwaite([*parts, both], variance))


def satterthwaite(parts: Sequence[VarianceEstimate], total: float) -> float:
    """Degrees of freedom of a sum or difference of variances with the value `total`."""
    spread = sum(part.variance**2 / part.freedom for part in parts if part.variance)
    return total**2 / spread if spread else math.inf


def cluster_sums(values: np.ndarray, weights: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums of residuals by cluster, scaled by CR2 so that their squares sum to a variance; float64 [clusters].

    Args:
        values: residuals, float64 [items].
        weights: of each item, float64 [items]; they sum to 1.
        clusters: of each item, int64 [items], numbered from 0.
    """
    shares = np.bincount(clusters, weights=weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(shares < 1, 1 / np.sqrt(1 - shares), 0.0)
    return np.bincount(clusters, weights=values) * scale


def effective_clusters(weights: np.ndarray, ways: Sequence[np.ndarray]) -> float:
    """Number of equally large clusters with the same sum of squared shares; the smaller one of two ways."""
    return min(1 / float((np.bincount(way, weights=weights) ** 2).sum()) for way in ways)


def _one_way(residuals: np.ndarray, weights: np.ndarray, clusters: np.ndarray) -> VarianceEstimate:
    shares = np.bincount(clusters, weights=weights)
    squares = float((cluster_sums(residuals, weights, clusters) ** 2).sum())
    items = 1 / float((weights**2).sum())
    spread = float((residuals**2 / weights).sum()) / (1 - 1 / items)
    independent, dependent = (_expected(shares, items, correlation) for correlation in (0.0, 1.0))
    if not spread or dependent.variance == independent.variance:
        return VarianceEstimate(squares, independent.freedom)
    correlation = (squares / spread - independent.variance) / (dependent.variance - independent.variance)
    correlation = min(max(correlation, 0.0), 1.0)
    expected = _expected(shares, items, correlation)
    truth = (1 - correlation) / items + correlation * float((shares**2).sum())
    return VarianceEstimate(squares * truth / expected.variance, expected.freedom)


def _expected(shares: np.ndarray, items: float, correlation: float) -> VarianceEstimate:
    """Mean and degrees of freedom of the CR2 variance for items of variance 1 with a correlation within clusters.

    With item shares 1/items, the cluster sums u_g of residuals have the covariances
    (1 - r) / items (w_g d_gh - w_g w_h) + r w_g w_h (d_gh - w_g - w_h + sum w^2), d_gh being 1 for g = h and else 0.
    The degrees of freedom of sum c_g u_g^2 are (sum c_g Cov_gg)^2 / sum c_g c_h Cov_gh^2.

    Args:
        shares: of each cluster in the mean, w, float64 [clusters].
        items: number of items.
        correlation: r, of two items of a cluster.
    """
    own = (1 - correlation) / items
    scale = 1 / (1 - shares)  # c
    level = correlation * float((shares**2).sum()) - own
    common = shares**2 * (level - 2 * correlation * shares)
    diagonal = own * shares + correlation * shares**2 + common
    mean = float((scale * diagonal).sum())
    first, second, third = (float((scale * shares**power).sum()) for power in (2, 3, 4))
    squares = level**2 * first**2 - 4 * level * correlation * first * second
    squares += 2 * correlation**2 * (first * third + second**2)
    squares += float((scale**2 * (diagonal**2 - common**2)).sum())
    return VarianceEstimate(mean, mean**2 / squares)
