"""The compute envelope: the least loss reached at each compute, and the power law L = k C^gamma through it.

Three definitions:
- "budgets": at log-spaced budgets, the least loss that any run had reached by then (the study's; the default);
- "records": the points that beat every cheaper point;
- "interpolated": each curve's ln L interpolated in ln C at the budgets, and the least over curves.
A curve is the learning curve of a run; final losses alone form one curve a size. Arrays are float64.
Source of the law: Kaplan et al. 2020 (arXiv 2001.08361), Cuervo and Marxer 2024, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from speechscale.laws.minimise import Array, Mask
from speechscale.records.law_sections import EnvelopeDefinition

Indices = NDArray[np.signedinteger[Any]]

DEFINITIONS: tuple[EnvelopeDefinition, ...] = get_args(EnvelopeDefinition)
BUDGETS = 40
EXPONENTS = -np.geomspace(0.003, 1.5, 240)  # gamma at which the law with an offset is profiled
MIN_POINTS = 4
MAX_ELEMENTS = 4_000_000  # elements of one (resamples, points) array


@dataclass(frozen=True)
class CurvePoints:
    """Losses along curves, sorted by compute: ln C (p,), ln L (p,), and the index of the curve of each (p,)."""

    log_c: Array
    log_l: Array
    curve: Indices

    @classmethod
    def of(cls, flops: Array, loss: Array, curve: Indices) -> CurvePoints:
        """Sort points of curves, (p,) each, by compute and then by loss."""
        order = np.lexsort((loss, flops))
        return cls(np.log(flops[order]), np.log(loss[order]), curve[order])

    @property
    def curves(self) -> int:
        """Number of curves."""
        return int(self.curve.max()) + 1

    @property
    def budgets(self) -> Array:
        """Ln C of log-spaced budgets over the points, (BUDGETS,)."""
        return np.linspace(self.log_c[0], self.log_c[-1], BUDGETS)

    @property
    def ends(self) -> Indices:
        """End of each curve but the last when points are sorted by curve, (curves - 1,)."""
        return np.cumsum(np.bincount(self.curve, minlength=self.curves))[:-1]


@dataclass(frozen=True)
class EnvelopeSet:
    """Envelopes of S sets of curves: ln C (p,), ln L (S, p), and a mask (S, p) of the points of each envelope."""

    log_c: Array
    log_l: Array
    mask: Mask


@dataclass(frozen=True)
class EnvelopeFit:
    """Power laws through S envelopes: the data in row 0, resamples of the curves below."""

    envelope: EnvelopeSet
    log_coefficient: Array  # (S,)
    gamma: Array  # (S,)
    curvature: Array  # (S,) coefficient of (ln C)^2: negative bends down, to better than a power law
    offset: Array  # (S, 3): E, ln k, gamma of L = E + k C^gamma


def fit_envelope(
    points: CurvePoints, definition: EnvelopeDefinition, *, resamples: int, seed: int
) -> EnvelopeFit:
    """Fit the envelope of all curves, and of resamples of the curves with replacement.

    Args:
        points: of all curves.
        definition: of the envelope.
        resamples: how many.
        seed: of the resamples.
    """
    rng = np.random.default_rng(seed)
    chosen = np.ones((resamples + 1, points.curves), dtype=bool)
    for row in range(1, resamples + 1):
        chosen[row] = np.bincount(rng.integers(0, points.curves, points.curves), minlength=points.curves) > 0
    size = max(1, MAX_ELEMENTS // max(len(points.log_c), BUDGETS))
    parts = [envelopes(points, definition, chosen[at : at + size]) for at in range(0, len(chosen), size)]
    envelope = EnvelopeSet(
        parts[0].log_c, np.concatenate([p.log_l for p in parts]), np.concatenate([p.mask for p in parts])
    )
    centre = float(envelope.log_c.mean())
    line = polynomial(envelope.log_c - centre, envelope.log_l, envelope.mask, 1)
    bent = polynomial(envelope.log_c - centre, envelope.log_l, envelope.mask, 2)
    return EnvelopeFit(
        envelope, line[:, 0] - line[:, 1] * centre, line[:, 1], bent[:, 2], _with_offset(envelope)
    )


def envelopes(points: CurvePoints, definition: EnvelopeDefinition, chosen: Mask) -> EnvelopeSet:
    """Envelopes of S subsets of curves, given by a mask `chosen` (S, curves)."""
    if definition == "interpolated":
        return _interpolated(points, chosen)
    values = np.where(chosen[:, points.curve], points.log_l, np.inf)
    least = np.minimum.accumulate(values, axis=1)
    if definition == "records":
        record = np.isfinite(values)
        record[:, 1:] &= values[:, 1:] < least[:, :-1]
        return EnvelopeSet(points.log_c, np.where(record, values, 0.0), record)
    budgets = points.budgets
    # A small tolerance, so that a point counts as reached at the budget that was computed from it.
    reached = np.searchsorted(points.log_c, budgets + 1e-9, side="right") - 1
    return _at_budgets(budgets, least[:, reached])


def _interpolated(points: CurvePoints, chosen: Mask) -> EnvelopeSet:
    budgets = points.budgets
    least = np.full((len(chosen), BUDGETS), np.inf)
    for curve, own in enumerate(np.split(np.argsort(points.curve, kind="stable"), points.ends)):
        line = np.interp(budgets, points.log_c[own], points.log_l[own], left=np.inf, right=np.inf)
        inside = np.isfinite(line)
        if inside.any():
            reach = np.where(chosen[:, curve, None], line[inside], np.inf)
            least[:, inside] = np.minimum(least[:, inside], reach)
    return _at_budgets(budgets, least)


def _at_budgets(budgets: Array, least: Array) -> EnvelopeSet:
    mask = np.isfinite(least)
    return EnvelopeSet(budgets, np.where(mask, least, 0.0), mask)


def polynomial(x: Array, y: Array, mask: Mask, degree: int) -> Array:
    """Least-squares polynomials (S, degree + 1), lowest power first.

    Args:
        x: (p,).
        y: (S, p).
        mask: (S, p), the points of each polynomial.
        degree: of the polynomials.
    """
    powers = np.stack([x**k for k in range(2 * degree + 1)], axis=1)
    weights = mask.astype(float)
    moments = weights @ powers
    rows = np.arange(degree + 1)
    left = moments[:, rows[:, None] + rows]
    right = (weights * y) @ powers[:, : degree + 1]
    enough = mask.sum(axis=1) > degree
    left[~enough] = np.eye(degree + 1)
    found = np.linalg.solve(left + 1e-12 * np.eye(degree + 1), right[..., None])[..., 0]
    found[~enough] = np.nan
    return found


def _with_offset(envelope: EnvelopeSet) -> Array:
    """E, ln k and gamma (S, 3) of L = E + k C^gamma: at each gamma, E and k by least squares of relative errors."""
    shape = np.exp(EXPONENTS[:, None] * (envelope.log_c - envelope.log_c.mean()))  # (gammas, p)
    inverse = np.where(envelope.mask, np.exp(-envelope.log_l), 0.0)
    one = (inverse**2).sum(axis=1)[:, None]
    with_k, kk = inverse**2 @ shape.T, inverse**2 @ (shape**2).T
    y, yk = inverse.sum(axis=1)[:, None], inverse @ shape.T
    determinant = one * kk - with_k**2
    with np.errstate(divide="ignore", invalid="ignore"):
        k = (one * yk - with_k * y) / determinant
        offset = (y - k * with_k) / one
        # E cannot be negative: where the best is, the fit has none.
        k = np.where(offset < 0, yk / kk, k)
        offset = np.maximum(offset, 0.0)
        error = offset**2 * one + 2 * offset * k * with_k + k**2 * kk - 2 * (offset * y + k * yk)
    error = np.where((k > 0) & np.isfinite(error), error, np.inf)
    best = np.argmin(error, axis=1)
    row = np.arange(len(best))
    gamma = EXPONENTS[best]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_k = np.log(k[row, best]) - gamma * envelope.log_c.mean()
    found = np.stack([offset[row, best], log_k, gamma], axis=1)
    found[~np.isfinite(error[row, best])] = np.nan
    return found
