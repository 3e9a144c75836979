"""What a ladder can and cannot identify: ladders drawn from a known law, fitted, and held against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.bootstrap import draw_laws, percentile_interval, require_draws
from speechscale.laws.forms import log_loss, to_values
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import fit_single_epoch
from speechscale.records.law import Resampling

FARTHER = 10.0  # times the largest compute: where the loss is forecast
# The study's ladder: sizes with tied embeddings counted once, and tokens per parameter.
PAPER_SIZES = (20.71e6, 85.34e6, 154.68e6, 308.85e6, 823.18e6)
PAPER_RATIOS = (2, 4, 8, 10, 20, 32, 64, 100)


@dataclass(frozen=True)
class SimulatedQuantity:
    """One quantity over all simulated ladders: estimates (M,) and intervals (M, 2) around a known truth."""

    truth: float
    estimates: Array
    intervals: Array

    @property
    def bias(self) -> float:
        return float(np.nanmedian(self.estimates) - self.truth)

    @property
    def spread(self) -> float:
        """Robust standard deviation of the estimates."""
        low, high = np.nanquantile(self.estimates, [0.15865, 0.84135])
        return float(high - low) / 2

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the truth; one that could not be closed holds nothing."""
        return float(np.mean((self.intervals[:, 0] <= self.truth) & (self.truth <= self.intervals[:, 1])))


def paper_design() -> tuple[Array, Array]:
    """N and D of the study's ladder: five sizes at eight tokens-per-parameter ratios, 40 runs."""
    params = np.repeat(PAPER_SIZES, len(PAPER_RATIOS))
    return params, params * np.tile(PAPER_RATIOS, len(PAPER_SIZES))


def quantities(theta: Array, farther_flops: float) -> dict[str, Array]:
    """What a user reads off a law: exponents, E, the split exponent, and the loss forecast; theta (..., 5)."""
    values = to_values(theta)
    return {
        "alpha": values[..., 3],
        "beta": values[..., 4],
        "E": values[..., 2],
        "a": values[..., 4] / (values[..., 3] + values[..., 4]),
        "forecast": allocation.best_loss(theta, farther_flops),
    }


def simulate(
    theta: Array,
    params: Array,
    tokens: Array,
    *,
    noise: float,
    ladders: int,
    draws: int = 1000,
    seed: int = 0,
    heavy: bool = False,
    resampling: Resampling = "noise",
    progress: Callable[[], object] = lambda: None,
) -> dict[str, SimulatedQuantity]:
    """Draw ladders from a law with noise in ln L, fit each, and compare with the truth.

    Args:
        theta: (5,) the true law.
        params: N of the design's runs, (n,).
        tokens: D.
        noise: standard deviation of ln L.
        draws: behind the intervals of each fit.
        heavy: noise from a t distribution of 4 degrees of freedom, of the same standard deviation.
        resampling: how the intervals are drawn.
        progress: called after each ladder.

    Raises:
        UserError: noise or the number of ladders is not above zero, or the draws are too few.
    """
    if not (np.isfinite(noise) and noise > 0) or ladders < 1:
        raise UserError(f"noise {noise} and {ladders} ladders; both must be above zero.")
    require_draws(draws)
    if seed < 0:
        raise UserError(f"seed is {seed}; a whole number from zero on is wanted.")
    rng = np.random.default_rng(seed)
    farther = FARTHER * float(np.max(allocation.FLOPS_PER_PARAM_TOKEN * params * tokens))
    exact = log_loss(theta, np.log(params), np.log(tokens))
    truth = quantities(theta, farther)
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {name: [] for name in truth}
    for k in range(ladders):
        error = rng.standard_t(4, len(params)) / np.sqrt(2) if heavy else rng.standard_normal(len(params))
        fit = fit_single_epoch(params, tokens, np.exp(exact + noise * error))
        drawn = quantities(draw_laws(fit, draws, seed + k, resampling), farther)
        for name, value in quantities(fit.theta, farther).items():
            found[name].append((float(value), percentile_interval(drawn[name]) or (np.nan, np.nan)))
        progress()
    return {
        name: SimulatedQuantity(
            float(truth[name]), np.array([v for v, _ in rows]), np.array([i for _, i in rows])
        )
        for name, rows in found.items()
    }
