"""Scores of runs with the variance of their items, the angular scale on which they are forecast, and a line of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from speechscale.laws.minimise import Array

CEILING = 1.0
FEW_ITEMS = 100  # assumed where the number of items is unknown
Predictor = Literal["loss", "compute"]


@dataclass(frozen=True)
class ScorePoints:
    """Scores of n runs against x = -loss or ln C.

    Attributes:
        against: what x is.
        x: (n,).
        flops: compute of each run, (n,).
        score: fraction of right answers, (n,).
        items: number of items, (n,); NaN where unknown.
        chance: score of guessing.
    """

    against: Predictor
    x: Array
    flops: Array
    score: Array
    items: Array
    chance: float

    @property
    def has_items(self) -> bool:
        """Whether every number of items is known."""
        return bool(np.isfinite(self.items).all())

    @property
    def usual_items(self) -> float:
        """Number of items of a new score: the median, or FEW_ITEMS where it is unknown."""
        return float(np.median(self.items)) if self.has_items else float(FEW_ITEMS)

    @property
    def variance(self) -> Array:
        """Binomial variance (n,); where the number of items is unknown, that of FEW_ITEMS, to be scaled to the fit."""
        items = self.items if self.has_items else np.full(len(self.score), float(FEW_ITEMS))
        return binomial_variance(self.score, items)

    def take(self, rows: np.ndarray) -> ScorePoints:
        """Some of the runs."""
        return replace(
            self, x=self.x[rows], flops=self.flops[rows], score=self.score[rows], items=self.items[rows]
        )


def binomial_variance(score: Array, items: Array) -> Array:
    """Variance (n,) of a share of right answers; shrunk towards 1/2 (Agresti and Coull), so that it is never 0."""
    shrunk = (score * items + 2) / (items + 4)
    return shrunk * (1 - shrunk) / items


def to_angle(score: Array) -> Array:
    """arcsin(sqrt(score)), on which binomial noise is 1 / (2 sqrt(items)) at every score (Anscombe 1948)."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(score, 0.0, 1.0))))


def to_score(angle: Array) -> Array:
    """The score of an angle; angles outside [0, pi/2] are the scores 0 and 1, so that intervals stay in [0, 1]."""
    return np.asarray(np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2)


@dataclass(frozen=True)
class Line:
    """The line y = slope x + intercept of weighted least squares."""

    slope: float
    intercept: float
    r2: float
    slope_se: float  # infinite where every x is the same


def fit_line(x: Array, y: Array, weights: Array) -> Line:
    """Fit a line to points x, y (n,) by weighted least squares."""
    total = weights.sum()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x - mean_x) ** 2
    if spread == 0:  # every x is the same: the line is level, and its slope is unknown
        return Line(0.0, float(mean_y), 0.0, np.inf)
    slope = float(weights @ ((x - mean_x) * (y - mean_y)) / spread)
    residual = y - mean_y - slope * (x - mean_x)
    around = float(weights @ (y - mean_y) ** 2)
    r2 = 1 - float(weights @ residual**2) / around if around > 0 else 0.0
    freedom = max(len(x) - 2, 1)
    error = float(np.sqrt(max(float(weights @ residual**2) / freedom, 1e-300) / spread))
    return Line(slope, float(mean_y - slope * mean_x), r2, error)
