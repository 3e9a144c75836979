"""Simulation of ladders: runs drawn from a known law, fitted, and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.allocation import FORECAST_FACTOR
from speechscale.laws.bootstrap import draw_laws, percentile_interval, require_draw_count
from speechscale.laws.forms import log_loss, to_values
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import fit_single_epoch
from speechscale.records.flops import training_flops
from speechscale.records.law import Resampling
from speechscale.records.seeds import spawn, spawn_seed

# The ladder of Cuervo and Marxer 2024: sizes with tied embeddings counted once, and tokens per parameter.
PAPER_SIZES = (20.71e6, 85.34e6, 154.68e6, 308.85e6, 823.18e6)
PAPER_RATIOS = (2, 4, 8, 10, 20, 32, 64, 100)
HEAVY_TAIL_FREEDOM = 4  # degrees of freedom of the t distribution of heavy-tailed noise


@dataclass(frozen=True)
class Noise:
    """Noise of ln L between equal runs: its standard deviation, normal or from a t distribution."""

    deviation: float
    heavy_tailed: bool = False

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Errors of ln L of `count` runs, (count,) float64."""
        if not self.heavy_tailed:
            return self.deviation * rng.standard_normal(count)
        # A t distribution of four degrees of freedom has variance 2.
        return np.asarray(self.deviation * (rng.standard_t(HEAVY_TAIL_FREEDOM, count) / np.sqrt(2)))


@dataclass(frozen=True)
class DrawOptions:
    """How the intervals of each fit are drawn."""

    count: int = 1000
    seed: int = 0
    resampling: Resampling = "noise"


@dataclass(frozen=True)
class SimulatedQuantity:
    """One quantity over M simulated ladders: estimates (M,) and intervals (M, 2), with the known truth."""

    truth: float
    estimates: Array
    intervals: Array

    @property
    def bias(self) -> float:
        """Median estimate less the truth."""
        return float(np.nanmedian(self.estimates) - self.truth)

    @property
    def spread(self) -> float:
        """Robust standard deviation of the estimates."""
        low, high = np.nanquantile(self.estimates, [0.15865, 0.84135])
        return float(high - low) / 2

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the truth; an open interval counts as not holding it."""
        return float(np.mean((self.intervals[:, 0] <= self.truth) & (self.truth <= self.intervals[:, 1])))


def paper_design() -> tuple[Array, Array]:
    """N and D, (40,) float64 each, of the study's ladder: five sizes at eight tokens-per-parameter ratios."""
    params = np.repeat(PAPER_SIZES, len(PAPER_RATIOS))
    return params, params * np.tile(PAPER_RATIOS, len(PAPER_SIZES))


def law_quantities(theta: Array, forecast_flops: float) -> dict[str, Array]:
    """What a user reads off a law at theta (..., 5): exponents, E, the split exponent and the loss forecast, (...)."""
    values = to_values(theta)
    return {
        "alpha": values[..., 3],
        "beta": values[..., 4],
        "E": values[..., 2],
        "a": allocation.split_exponent(theta),
        "forecast": allocation.best_loss(theta, forecast_flops),
    }


def simulate(
    theta: Array,
    params: Array,
    tokens: Array,
    *,
    noise: Noise,
    ladders: int,
    draws: DrawOptions = DrawOptions(),
    progress: Callable[[], object] = lambda: None,
) -> dict[str, SimulatedQuantity]:
    """Draw ladders from a law, fit each, and compare with the truth.

    Args:
        theta: (5,) the true law.
        params: N of the design's runs, (n,).
        tokens: D, (n,).
        noise: of ln L between equal runs.
        ladders: how many to draw.
        draws: how the intervals of each fit are drawn.
        progress: called after each ladder.

    Raises:
        UserError: noise or the number of ladders is not above zero, or the draws are too few.
    """
    if not (np.isfinite(noise.deviation) and noise.deviation > 0) or ladders < 1:
        raise UserError(f"noise {noise.deviation} and {ladders} ladders; both must be above zero.")
    require_draw_count(draws.count)
    if draws.seed < 0:
        raise UserError(f"seed is {draws.seed}; a whole number from zero on is wanted.")
    rng = np.random.default_rng(spawn(draws.seed, "ladders"))
    forecast_flops = FORECAST_FACTOR * float(np.max(training_flops(params, tokens)))
    exact = log_loss(theta, np.log(params), np.log(tokens))
    truth = law_quantities(theta, forecast_flops)
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {name: [] for name in truth}
    for number in range(ladders):
        fit = fit_single_epoch(params, tokens, np.exp(exact + noise.draw(len(params), rng)))
        drawn_laws = draw_laws(fit, draws.count, spawn_seed(draws.seed, "fit", str(number)), draws.resampling)
        drawn = law_quantities(drawn_laws, forecast_flops)
        for name, value in law_quantities(fit.theta, forecast_flops).items():
            found[name].append((float(value), percentile_interval(drawn[name]) or (np.nan, np.nan)))
        progress()
    return {
        name: SimulatedQuantity(
            float(truth[name]), np.array([v for v, _ in rows]), np.array([i for _, i in rows])
        )
        for name, rows in found.items()
    }
