"""The sections of a law file: each law fitted to one series and told as JSON, or {"missing": why}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.bootstrap import RESAMPLINGS, Resampling, draw_laws, interval, require_draws
from speechscale.laws.envelope import DEFINITIONS, LEAST_POINTS, EnvelopeFit, Points, fit_envelope
from speechscale.laws.forms import NAMES, log_loss, named, to_values
from speechscale.laws.influence import influence
from speechscale.laws.isoflop import draw_exponents, fit_isoflop
from speechscale.laws.minimise import Array
from speechscale.laws.repeated import (
    GRID,
    RATES,
    RepeatedFit,
    fit_repeated,
    log_effective,
    refit_rates,
    told_rates,
)
from speechscale.laws.single_epoch import (
    Constraint,
    Ladder,
    SingleEpochFit,
    fit_single_epoch,
    require_delta,
)
from speechscale.records.law import rounded

ISOFLOP_DRAWS = 200  # enough for a 95 % interval; each fits every budget again
LAWS = ("single_epoch", "repeated", "envelope", "isoflop", "downstream", "efficiency")


@dataclass(frozen=True)
class Options:
    """What to fit and how; the defaults are those of `speechscale fit`."""

    laws: tuple[str, ...] = LAWS
    delta: float | None = None
    tied: bool = False
    fixed: Mapping[str, float] = field(default_factory=dict)
    exhaustive: bool = False
    bootstrap: int = 1000
    resampling: Resampling = "noise"
    seed: int = 0
    envelope: str = "budgets"
    chance: float = 0.5
    ceiling: float | None = 1.0
    rollout: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("resampling", self.resampling, RESAMPLINGS),
            ("envelope", self.envelope, DEFINITIONS),
        ):
            if value not in known:
                raise UserError(f"{name} {value!r} is unknown; there are {', '.join(known)}.")
        require_draws(self.bootstrap)
        require_delta(self.delta)
        Constraint.of(self.tied, self.fixed)
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; a whole number from zero on is wanted.")
        if self.rollout is not None and self.rollout < 1:
            raise UserError(f"rollout is {self.rollout}; how many of the cheapest runs to fit is wanted.")
        if not 0 <= self.chance < 1:
            raise UserError(f"chance is {self.chance:g}; a fraction in [0, 1) is wanted.")
        if self.ceiling is not None and not self.chance < self.ceiling <= 1:
            raise UserError(
                f"ceiling is {self.ceiling:g}; a fraction above chance ({self.chance:g}), 1 at most, is wanted."
            )


@dataclass(frozen=True)
class FittedLaw:
    """The single-epoch law and its draws (S, 5), which every later number takes its interval from."""

    fit: SingleEpochFit
    draws: Array

    @property
    def laws(self) -> Array:
        """The fit in row 0, its draws below."""
        return np.concatenate([self.fit.theta[None], self.draws])


def ladder_of(table: pl.DataFrame) -> Ladder:
    weights = table["weight"] if "weight" in table.columns else None
    return Ladder.of(table["params"], table["tokens"], table["loss"], weights)


def single_epoch(table: pl.DataFrame, options: Options) -> tuple[dict[str, Any], FittedLaw | None]:
    ladder = ladder_of(table)
    try:
        fit = fit_single_epoch(
            ladder.params,
            ladder.tokens,
            ladder.loss,
            weights=ladder.weights,
            delta=options.delta,
            tied=options.tied,
            fixed=options.fixed,
            exhaustive=options.exhaustive,
        )
    except UserError as error:
        return {"missing": str(error)}, None
    first = FittedLaw(fit, draw_laws(fit, options.bootstrap, options.seed, options.resampling))
    values = to_values(first.draws)
    alpha, beta = first.draws[:, 3], first.draws[:, 4]
    split = {
        "a": beta / (alpha + beta),
        "b": alpha / (alpha + beta),
        "G": np.exp(allocation.log_g(first.draws)),
    }
    moved = influence(fit)
    return {
        "params": fit.params,
        "interval95": {name: interval(values[:, k]) for k, name in enumerate(NAMES)},
        "correlation": {
            "ln A, alpha": _correlation(first.draws[:, 0], alpha),
            "ln B, beta": _correlation(first.draws[:, 1], beta),
        },
        "delta": fit.delta,
        "objective": fit.objective,
        "converged": fit.convergence.reached,
        "convergence": {
            "starts": fit.convergence.starts,
            "agreeing": fit.convergence.agreeing,
            "stalled": fit.convergence.stalled,
            "gradient": fit.convergence.slope,
        },
        "noise": fit.noise,
        "allocation": {
            **{name: number(value) for name, value in fit.allocation.items()},
            "interval95": {name: interval(draw) for name, draw in split.items()},
        },
        "range": {name: _range(table[name]) for name in ("params", "tokens", "flops", "loss")},
        "draws": {name: rounded(values[:, k]) for k, name in enumerate(NAMES)},
        "residuals": {
            "run": table["run"].to_list(),
            "ln_predicted_over_observed": rounded(fit.residuals),
            "influence": rounded(moved),
        },
    }, first


def rollout(single: pl.DataFrame, count: int, options: Options) -> dict[str, Any]:
    """The law fitted to the `count` cheapest runs, held against the others."""
    ordered = single.sort("flops", maintain_order=True)
    cheap, dear = ordered.head(count), ordered.slice(count)
    if not dear.height:
        return {"missing": f"no runs are left to forecast beyond the {count} cheapest of {single.height}"}
    _, first = single_epoch(cheap, options)
    if first is None:
        return {"missing": f"{cheap.height} runs are too few to fit"}
    ladder = ladder_of(dear)
    forecast = log_loss(first.laws, ladder.log_n, ladder.log_d)
    error = forecast[0] - ladder.log_loss
    # A new run carries noise of its own on top of what the law leaves open.
    own = np.random.default_rng(options.seed).standard_normal(forecast[1:].shape) * first.fit.noise
    low, high = np.quantile(forecast[1:] + own, [0.025, 0.975], axis=0)
    held = (low <= ladder.log_loss) & (ladder.log_loss <= high)
    rmse = float(np.sqrt(np.mean(error**2)))
    return {
        "fitted_on": cheap.height,
        "forecast": dear.height,
        "rmse_ln_loss": rmse,
        "bias_ln_loss": float(error.mean()),
        "held_by_interval95": float(held.mean()),
        "runs": {
            "run": dear["run"].to_list(),
            "loss": rounded(ladder.loss),
            "forecast": rounded(np.exp(forecast[0])),
            "low": rounded(np.exp(low)),
            "high": rounded(np.exp(high)),
        },
        "says": f"fitted on the {cheap.height} cheapest runs, the law misses the loss of the other {dear.height} by "
        f"{rmse:.2%} (bias {error.mean():+.2%}); {held.sum()} of {dear.height} lie in their 95 % interval",
    }


def repeated(
    first: FittedLaw | None, done: pl.DataFrame, multi: pl.DataFrame, options: Options
) -> dict[str, Any]:
    if first is None:
        return {"missing": "it stands on the single-epoch law, which is missing"}
    if multi.height < 3:
        return {"missing": f"{multi.height} runs of more than one epoch; 3 are the least for R_D and R_N"}
    runs, unique = ladder_of(multi), multi["unique_tokens"].to_numpy()
    fit = fit_repeated(first.fit, runs, unique)
    section = _rates(fit)
    section["draws"] = {
        name: rounded(told_rates(draw))
        for name, draw in zip(RATES, _draw_rates(first, fit, runs, unique, options).T, strict=True)
    }
    above = _excess(first, done)
    section["note"] = (
        f"{above} of {done.height} runs have more parameters than the best split gives to their unique tokens. "
        "N' counts such parameters for less even in a run of one epoch, which the single-epoch law of the first stage "
        "does not know: where many runs are like this, trust the joint fit."
    )
    everything = fit_repeated(first.fit, ladder_of(done), done["unique_tokens"].to_numpy(), joint=True)
    section["joint"] = {**_rates(everything), "single_epoch": named(everything.theta[:5])}
    section["runs"] = multi["run"].to_list()
    return section


def envelope(single: pl.DataFrame, curves: pl.DataFrame | None, options: Options) -> dict[str, Any]:
    if curves is not None and curves.height:
        points = curves.filter(pl.col("run").is_in(single["run"].to_list()))
        label = points["run"]
    else:
        points, label = single, single["params"]  # runs known by their end alone: one curve a size
    if points.height < LEAST_POINTS:
        return {"missing": f"{points.height} points of single-epoch runs; {LEAST_POINTS} are the least"}
    curve = label.rank("dense").to_numpy().astype(int) - 1
    cloud = Points.of(points["flops"].to_numpy(), points["loss"].to_numpy(), curve)
    fits = {
        name: fit_envelope(cloud, name, resamples=options.bootstrap, seed=options.seed)
        for name in DEFINITIONS
    }
    chosen = fits[options.envelope]
    power_law = _power_law(chosen)
    if "missing" in power_law:
        return power_law
    held = chosen.envelope.holds[0]
    return {
        "definition": options.envelope,
        **power_law,
        "curvature": {"value": number(chosen.curvature[0]), "interval95": interval(chosen.curvature[1:])},
        "offset": _offset(chosen),
        "points": {
            "flops": rounded(np.exp(chosen.envelope.log_c[held])),
            "loss": rounded(np.exp(chosen.envelope.log_l[0, held])),
        },
        "definitions": {name: _power_law(fit) for name, fit in fits.items()},
    }


def isoflop(single: pl.DataFrame, first: FittedLaw | None, options: Options) -> dict[str, Any]:
    ladder = ladder_of(single)
    found = fit_isoflop(ladder)
    budgets = [{key: value for key, value in asdict(m).items() if value is not None} for m in found.minima]
    if found.exponents is None:
        return {"missing": found.why, "budgets": budgets}
    section: dict[str, Any] = {"params": found.exponents, "budgets": budgets}
    if first is not None:
        a = draw_exponents(ladder, first.fit.noise, ISOFLOP_DRAWS, options.seed)
        section["interval95"] = {"a": interval(a), "b": interval(1 - a)}
    return section


def _draw_rates(first: FittedLaw, fit: RepeatedFit, runs: Ladder, unique: Array, options: Options) -> Array:
    """ln R_D*, ln R_N* (S, 2): for each draw of the single-epoch law, residuals of this stage put back at random."""
    rng = np.random.default_rng(options.seed + 1)
    log_n, log_d = log_effective(fit.theta[None], runs.log_n, runs.log_d, np.log(unique))
    predicted = log_loss(fit.theta[None, :5], log_n, log_d)[0]
    residual = runs.log_loss - predicted
    residual *= np.sqrt(len(runs) / max(len(runs) - 2, 1))
    again = predicted + rng.choice(residual, (len(first.draws), len(runs)))
    return refit_rates(first.draws, runs, unique, first.fit.delta, fit.theta[5:], again)


def _excess(first: FittedLaw, runs: pl.DataFrame) -> int:
    """How many runs have parameters in excess in the sense of N'."""
    unique = np.minimum(runs["unique_tokens"].to_numpy(), runs["tokens"].to_numpy())
    with np.errstate(invalid="ignore"):
        matched = allocation.log_params_for(first.fit.theta, np.log(unique))
    return int(np.sum(np.log(runs["params"].to_numpy()) > matched))


def _rates(fit: RepeatedFit) -> dict[str, Any]:
    return {
        "params": fit.rates,
        "interval95": {name: [profile.low, profile.high] for name, profile in fit.profiles.items()},
        "identified": {name: profile.closes for name, profile in fit.profiles.items()},
        "objective": fit.objective,
        "near_equal_minima": fit.minima,
        "profile": {
            "at": rounded(GRID),
            **{name: rounded(profile.objective) for name, profile in fit.profiles.items()},
        },
    }


def _power_law(fit: EnvelopeFit) -> dict[str, Any]:
    if not np.isfinite(fit.gamma[0]):
        return {"missing": "no run beats the loss of the cheapest one, so the envelope is a single point"}
    return {
        "params": {"coefficient": float(np.exp(fit.log_coefficient[0])), "gamma": float(fit.gamma[0])},
        "interval95": {
            "coefficient": interval(np.exp(fit.log_coefficient[1:])),
            "gamma": interval(fit.gamma[1:]),
        },
    }


def _offset(fit: EnvelopeFit) -> dict[str, Any]:
    if not np.isfinite(fit.offset[0]).all():
        return {"missing": "no falling power law with an offset fits this envelope"}
    names = ("E", "coefficient", "gamma")
    offset = fit.offset.copy()
    offset[:, 1] = np.exp(offset[:, 1])
    return {
        "params": dict(zip(names, offset[0].tolist(), strict=True)),
        "interval95": {name: interval(offset[1:, k]) for k, name in enumerate(names)},
    }


def _correlation(one: Array, other: Array) -> float | None:
    """None where one of the two does not vary, as a fixed parameter does."""
    if min(np.ptp(one), np.ptp(other)) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _range(values: pl.Series) -> list[float]:
    return [float(values.min()), float(values.max())]  # type: ignore[arg-type]


def number(value: float) -> float | None:
    """For JSON, which has no infinity and no not-a-number."""
    return float(value) if np.isfinite(value) else None
