"""Estimates from a law with draws: a centre, and the intervals of the law and of a new run."""

from __future__ import annotations

import numpy as np

from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.draws import LawDraws
from speechscale.laws.minimise import Array
from speechscale.laws.scores import SaturatingCurves, logistic
from speechscale.records.plan import Estimate, LossEstimate

ROUNDING = 1e-9  # spread of a logarithm below which all rows hold the same number


def curve_rows(law: LawDraws, curves: int) -> Array:
    """Row of a score's curve for each row of the law: the fitted curve for fitted laws, the draws in turn for draws."""
    return np.concatenate(
        [np.zeros(law.points, int), 1 + np.arange(law.draws) % max(curves - 1, 1)]
        if curves > 1
        else [np.zeros(len(law.theta), int)]
    )


def scores_at(curve: SaturatingCurves, rows: Array, log_loss: Array) -> Array:
    """The score (S,) at ln L (S,) by the given rows of its curve."""
    midpoint, steepness, ceiling = curve.curves[rows].T
    return logistic(-np.exp(log_loss), curve.floor, midpoint, steepness, ceiling)


def score_estimate(law: LawDraws, curve: SaturatingCurves, log_loss: Array) -> Estimate:
    """The score at the central loss, with the draws of curve and widened law."""
    rows = curve_rows(law, len(curve.curves))
    value = scores_at(curve, rows[:1], law.centre(log_loss)[None])[0]
    drawn = scores_at(curve, rows[law.points :], law.widened(log_loss)) if law.draws else np.empty(0)
    return Estimate(value=float(value), interval95=percentile_interval(drawn))


def estimate(law: LawDraws, log_rows: Array) -> Estimate:
    """A quantity whose logarithm every row gives: its centre, with the interval of the widened draws."""
    given = np.ptp(log_rows) <= ROUNDING  # a number that was given has no interval
    interval = None if given or not law.draws else percentile_interval(np.exp(law.widened(log_rows)))
    return Estimate(value=float(np.exp(law.centre(log_rows))), interval95=interval)


def loss_estimate(law: LawDraws, log_loss: Array) -> LossEstimate:
    """The loss of a new run, and of the mean of runs so made.

    The noise of a run can only widen an interval; its draws, being few, may say otherwise in the last digit.
    """
    of_law = estimate(law, log_loss)
    new_run = None if law.noise is None else estimate(law, law.with_noise(log_loss)).interval95
    if new_run and of_law.interval95:
        new_run = min(new_run[0], of_law.interval95[0]), max(new_run[1], of_law.interval95[1])
    return LossEstimate(value=of_law.value, interval95=new_run, law_interval95=of_law.interval95)
