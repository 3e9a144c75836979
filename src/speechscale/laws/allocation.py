"""The best split of a compute budget between parameters and tokens, under one law or many draws of it.

For L = E + (A/N^alpha + B N^c/D^beta)^gamma under C = 6 N D the loss is least where the sum is, whatever E and gamma:
N_opt = G (C/6)^a and D_opt = (C/6)^b / G, with G = (alpha A / ((beta + c) B))^(1/(alpha + beta + c)),
a = beta/(alpha + beta + c), b = 1 - a. For c = 0 and gamma = 1: Hoffmann et al. 2022, equation 4.
theta (..., 5) = (ln A, ln B, ln E, alpha, beta), or (..., 7) with ln gamma and c; arrays are float64.
"""

from __future__ import annotations

import numpy as np

from speechscale.laws.forms import shape_of
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN

# Forecasts are judged at this many times the compute of the largest run: influence, design of further runs, simulation.
FORECAST_FACTOR = 10.0


def log_g(theta: Array) -> Array:
    """Ln G (...); NaN where an exponent is not above zero, because no split is best there."""
    a, b, alpha, beta = (theta[..., k] for k in (0, 1, 3, 4))
    growth = beta + shape_of(theta)[1]  # of the second term with N at fixed compute
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.log(alpha) + a - np.log(growth) - b) / (alpha + growth))


def split_exponent(theta: Array) -> Array:
    """The exponent a (...) of N_opt = G (C/6)^a; that of D_opt is 1 - a."""
    alpha, beta = theta[..., 3], theta[..., 4]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(beta / (alpha + beta + shape_of(theta)[1]))


def split_params(theta: Array) -> dict[str, float]:
    """The parameters "a", "b" and "G" of the best split at one theta."""
    a = float(split_exponent(theta))
    return {"a": a, "b": 1 - a, "G": float(split_coefficient(theta))}


def split_coefficient(theta: Array) -> Array:
    """G (...): NaN where no split is best, and infinite where a weak law puts it beyond the largest number."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(log_g(theta)))


def log_optimum(theta: Array, flops: float | Array) -> tuple[Array, Array]:
    """Ln N_opt and ln D_opt (...) for a budget in FLOPs."""
    log_c = np.log(np.asarray(flops, dtype=float) / FLOPS_PER_PARAM_TOKEN)
    log_n = log_g(theta) + split_exponent(theta) * log_c
    return log_n, log_c - log_n


def log_params_for(theta: Array, log_tokens: Array) -> Array:
    """Ln of the N (...) whose optimal number of tokens is exp(log_tokens)."""
    alpha, beta = theta[..., 3], theta[..., 4]
    c = shape_of(theta)[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((log_g(theta) * (alpha + beta + c) + beta * log_tokens) / (alpha + c))


def log_scale(theta: Array) -> tuple[Array, Array]:
    """Ln K and the exponent (...) of the best loss E + K (C/6)^exponent."""
    a, b, alpha, beta = (theta[..., k] for k in (0, 1, 3, 4))
    gamma, c = shape_of(theta)
    g = log_g(theta)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_k = gamma * np.logaddexp(a - alpha * g, b + (beta + c) * g)
        return log_k, -gamma * alpha * beta / (alpha + beta + c)


def best_loss(theta: Array, flops: float | Array) -> Array:
    """Loss (...) of the best split of a budget in FLOPs."""
    log_k, exponent = log_scale(theta)
    log_c = np.log(np.asarray(flops, dtype=float) / FLOPS_PER_PARAM_TOKEN)
    return np.asarray(np.exp(theta[..., 2]) + np.exp(log_k + exponent * log_c))


def flops_for(theta: Array, loss: float | Array) -> Array:
    """Budget in FLOPs (...) whose best split reaches a loss; infinite at or below E."""
    log_k, exponent = log_scale(theta)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above = np.log(np.asarray(loss, dtype=float) - np.exp(theta[..., 2]))
        return np.where(
            np.isfinite(above), FLOPS_PER_PARAM_TOKEN * np.exp((above - log_k) / exponent), np.inf
        )
