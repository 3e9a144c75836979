"""Test of a law of the family against one that contains it."""

from __future__ import annotations

import numpy as np

from speechscale.laws.family_fit import MemberFit
from speechscale.laws.forms import huber
from speechscale.laws.single_epoch import HUBER_EFFICIENCY, MIN_DELTA


def nested_p_value(restricted: MemberFit, full: MemberFit) -> float:
    """Probability that a law with one more free parameter fits so much better by chance.

    The likelihood-ratio-type test of M-estimators: twice the difference of the two sums of Huber's loss over a robust
    variance, against F (Schrader and Hettmansperger 1980; Huber 1981, section 7.10).

    Args:
        restricted: the law with a parameter held.
        full: the law with that parameter free, fitted to the same runs.
    """
    from scipy.special import fdtrc

    ladder, delta = full.ladder, max(HUBER_EFFICIENCY * full.noise, MIN_DELTA)
    at = [fit.objective.log_loss(fit.phi[None])[0] - ladder.log_loss for fit in (restricted, full)]
    objectives = [float(ladder.weights @ huber(residuals, delta)) for residuals in at]
    clipped = np.clip(at[1], -delta, delta)
    spare = len(ladder) - sum(full.member.free)
    inside = float(np.mean(np.abs(at[1]) <= delta))
    variance = float(ladder.weights @ clipped**2) / spare / inside
    gained = max(0.0, 2 * (objectives[0] - objectives[1]))
    return float(fdtrc(1, spare, gained / max(variance, MIN_DELTA**2 * 1e-6)))
