"""Training compute by the usual approximation C = 6 N D (Kaplan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

# Multiply-adds count two: two in the forward pass, four in the backward pass. Attention and embeddings are left out.
FLOPS_PER_PARAM_TOKEN = 6.0

T = TypeVar("T", float, NDArray[np.floating[Any]], "pl.Series", "pl.Expr")


def training_flops(params: T, tokens: T) -> T:
    """C = 6 N D in FLOPs.

    Floating point before the product: 6 N D of a large run does not fit 64 bits.

    Args:
        params: N, non-embedding parameters: a number, array, polars column or expression.
        tokens: D, tokens seen, of the same kind.
    """
    return FLOPS_PER_PARAM_TOKEN * params * tokens
