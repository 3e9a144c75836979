"""Estimates from a law with draws: a centre, and the intervals of the law and of a new run."""

from __future__ import annotations

import numpy as np

from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.draws import LawDraws
from speechscale.laws.minimise import Array
from speechscale.laws.pool import widened
from speechscale.laws.score_curves import ScoreCurves
from speechscale.laws.scores import to_angle, to_score
from speechscale.records.law_sections import Interval
from speechscale.records.plan import Estimate, LossEstimate, ScoreEstimate

DRAW_SEED = 1  # of draws of scores, so that the same plan gives the same interval
ROUNDING = 1e-9  # spread of a logarithm below which all rows hold the same number


def score_estimate(law: LawDraws, curve: ScoreCurves, log_loss: Array) -> ScoreEstimate:
    """The score of a new run at ln L (R,) by every row of the law, and of the mean of runs so made.

    The chain from loss to score is drawn: draws of the loss, widened by the law's backtest, go through draws of the
    curve. What a curve differs from the centre of the curves, and the noise of items and runs around it, is widened by
    the backtest of the score. All of this is on the angular scale, so that no interval leaves [0, 1].
    """
    value = float(curve.centre(-np.exp(law.centre(log_loss)[None]))[0])
    if not law.draws or not curve.draws:
        return ScoreEstimate(value=value, interval95=None, law_interval95=None)
    rng = np.random.default_rng(DRAW_SEED)
    # Draws of law and of curve are in blocks by member; a random order crosses the members of both.
    rows = curve.points + rng.permutation(np.resize(np.arange(curve.draws), law.draws))
    noise = curve.noise[rows] * rng.standard_normal(law.draws)
    of_law = _interval(curve, rows, law.widened(log_loss), np.zeros(law.draws))
    new_run = _interval(curve, rows, law.widened(law.with_noise(log_loss)), noise)
    return ScoreEstimate(value=value, interval95=_covering(new_run, of_law), law_interval95=of_law)


def _interval(curve: ScoreCurves, rows: Array, log_loss: Array, noise: Array) -> Interval | None:
    """Interval of the score by rows of the curve (S,) at ln L (S,), with angular noise (S,)."""
    x = -np.exp(log_loss)
    finite = np.isfinite(x)
    centre = np.full(len(x), np.nan)
    centre[finite] = to_angle(curve.centre(x[finite]))
    drawn = to_angle(curve.score(x[:, None], rows)[:, 0]) + noise
    angles = widened(drawn, centre, curve.scale)
    return percentile_interval(np.where(finite, to_score(angles), np.nan))


def estimate(law: LawDraws, log_rows: Array) -> Estimate:
    """A quantity whose logarithm every row gives: its centre, with the interval of the widened draws."""
    given = np.ptp(log_rows) <= ROUNDING  # a number that was given has no interval
    interval = None if given or not law.draws else percentile_interval(np.exp(law.widened(log_rows)))
    return Estimate(value=float(np.exp(law.centre(log_rows))), interval95=interval)


def loss_estimate(law: LawDraws, log_loss: Array) -> LossEstimate:
    """The loss of a new run, and of the mean of runs so made."""
    of_law = estimate(law, log_loss)
    new_run = None if law.noise is None else estimate(law, law.with_noise(log_loss)).interval95
    covering = _covering(new_run, of_law.interval95)
    return LossEstimate(value=of_law.value, interval95=covering, law_interval95=of_law.interval95)


def _covering(new_run: Interval | None, of_law: Interval | None) -> Interval | None:
    """The interval of a new run, which holds that of the law: few draws of the noise may deny it in the last digit."""
    if new_run is None or of_law is None:
        return new_run
    return min(new_run[0], of_law[0]), max(new_run[1], of_law[1])
