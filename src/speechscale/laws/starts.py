"""Starting points for the fit of the single-epoch law."""

from __future__ import annotations

from itertools import product

import numpy as np

from speechscale.laws.ladder import Ladder
from speechscale.laws.minimise import Array

EXPONENTS = np.unique(np.append(np.geomspace(0.03, 2.0, 11), [0.5, 1.0, 1.5]))  # 0 itself would duplicate E


def published_starts() -> Array:
    """The 4,500 starts of Hoffmann et al. 2022, appendix D.3, as theta (4500, 5)."""
    terms = np.arange(0.0, 26.0, 5.0)
    exponents = np.arange(0.0, 2.1, 0.5)
    return np.array(list(product(terms, terms, np.arange(-1.0, 1.1, 0.5), exponents, exponents)))


def profiled_starts(ladder: Ladder, exponents: Array = EXPONENTS) -> Array:
    """Starts (S, 5) on a plane of exponents, with A, B and E optimal for each by relative least squares.

    At fixed exponents the law is linear in A, B and E (variable projection: Golub and Pereyra 1973). Eliminating them
    leaves 25 of the 4,500 published starts, one for each pair of exponents; the plane holds these and points between.
    At none of them has a term of the law vanished.
    """
    alpha, beta = (axis.ravel() for axis in np.meshgrid(exponents, exponents, indexing="ij"))
    centre = ladder.centring
    columns = np.stack(
        [
            np.exp(-alpha[:, None] * (ladder.log_n - centre.log_n)),
            np.exp(-beta[:, None] * (ladder.log_d - centre.log_d)),
            np.ones((len(alpha), len(ladder))),
        ],
        axis=-1,
    )
    columns *= (np.sqrt(ladder.weights) / ladder.loss)[:, None]
    terms = _non_negative(columns, np.broadcast_to(np.sqrt(ladder.weights), columns.shape[:2]))
    smallest = 1e-3 * terms.max(axis=1, keepdims=True)  # a term at zero could never come back
    centred = np.column_stack([np.log(np.maximum(terms, smallest)), alpha, beta])
    return centre.restored(centred)


def _non_negative(columns: Array, target: Array) -> Array:
    """Least squares (S, n, 3) onto (S, n) with coefficients >= 0: the best of the seven sets of active columns."""
    gram = np.swapaxes(columns, 1, 2) @ columns
    cross = np.einsum("snk,sn->sk", columns, target)
    best, least = np.zeros_like(cross), np.full(len(cross), np.inf)
    for active in product((False, True), repeat=3):
        at = np.flatnonzero(active)
        if not len(at):
            continue
        block = gram[:, at[:, None], at] + 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(
            len(at)
        )
        found = np.zeros_like(cross)
        found[:, at] = np.linalg.solve(block, cross[:, at, None])[..., 0]
        value = np.einsum("sk,skl,sl->s", found, gram, found) - 2 * np.einsum("sk,sk->s", found, cross)
        better = (value < least) & (found >= 0).all(axis=1)
        best[better], least[better] = found[better], value[better]
    return np.asarray(best)
