"""The best split of a compute budget between parameters and tokens, under one law or many draws of it.

For L = E + A/N^alpha + B/D^beta under C = 6 N D: N_opt = G (C/6)^a and D_opt = (C/6)^b / G, with
G = (alpha A / (beta B))^(1/(alpha + beta)), a = beta/(alpha + beta), b = alpha/(alpha + beta).
Source: Hoffmann et al. 2022, equation 4. theta (..., 5) = (ln A, ln B, ln E, alpha, beta); arrays are float64.
"""

from __future__ import annotations

import numpy as np

from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN

# Forecasts are judged at this many times the compute of the largest run: influence, design of further runs, simulation.
FORECAST_FACTOR = 10.0


def log_g(theta: Array) -> Array:
    """Ln G (...) at theta (..., 5); NaN where an exponent is not above zero, because no split is best there."""
    a, b, alpha, beta = (theta[..., k] for k in (0, 1, 3, 4))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.log(alpha) + a - np.log(beta) - b) / (alpha + beta))


def split_params(theta: Array) -> dict[str, float]:
    """The parameters "a", "b" and "G" of the best split at one theta (5,)."""
    alpha, beta = float(theta[3]), float(theta[4])
    return {"a": beta / (alpha + beta), "b": alpha / (alpha + beta), "G": float(np.exp(log_g(theta)))}


def log_optimum(theta: Array, flops: float | Array) -> tuple[Array, Array]:
    """Ln N_opt and ln D_opt (...) for a budget in FLOPs, at theta (..., 5)."""
    log_c = np.log(np.asarray(flops, dtype=float) / FLOPS_PER_PARAM_TOKEN)
    log_n = log_g(theta) + theta[..., 4] / (theta[..., 3] + theta[..., 4]) * log_c
    return log_n, log_c - log_n


def log_params_for(theta: Array, log_tokens: Array) -> Array:
    """Ln of the N (...) whose optimal number of tokens is exp(log_tokens), at theta (..., 5)."""
    alpha, beta = theta[..., 3], theta[..., 4]
    return np.asarray(log_g(theta) * (1 + beta / alpha) + beta / alpha * log_tokens)


def log_scale(theta: Array) -> tuple[Array, Array]:
    """Ln K and gamma (...) of the best loss E + K (C/6)^gamma, gamma = -alpha beta/(alpha + beta)."""
    a, b, alpha, beta = (theta[..., k] for k in (0, 1, 3, 4))
    g = log_g(theta)
    with np.errstate(invalid="ignore"):
        return np.logaddexp(a - alpha * g, b + beta * g), -alpha * beta / (alpha + beta)


def best_loss(theta: Array, flops: float | Array) -> Array:
    """Loss (...) of the best split of a budget in FLOPs, at theta (..., 5)."""
    log_k, gamma = log_scale(theta)
    log_c = np.log(np.asarray(flops, dtype=float) / FLOPS_PER_PARAM_TOKEN)
    return np.asarray(np.exp(theta[..., 2]) + np.exp(log_k + gamma * log_c))


def flops_for(theta: Array, loss: float | Array) -> Array:
    """Budget in FLOPs (...) whose best split reaches a loss; infinite at or below E."""
    log_k, gamma = log_scale(theta)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above = np.log(np.asarray(loss, dtype=float) - np.exp(theta[..., 2]))
        return np.where(np.isfinite(above), FLOPS_PER_PARAM_TOKEN * np.exp((above - log_k) / gamma), np.inf)
