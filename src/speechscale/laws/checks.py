"""Checks that speak: what a reader of a law must know about the runs it came from, each one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from speechscale.laws import allocation
from speechscale.laws.bootstrap import interval
from speechscale.laws.forms import log_loss
from speechscale.laws.influence import FARTHER, influence, log_forecast
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit
from speechscale.records.runs_table import RECIPE_COLUMNS

FEW_RUNS = 15
COLLINEAR = 0.95
DECADE = 10.0
WARMUP_SHARE = 0.1
FLAT_LOSS = 1e-3
WIDE = 4.0  # ratio of the ends of an exponent's interval beyond which it is not determined


def sentence(check: str, says: str, level: str = "warning", **values: Any) -> dict[str, Any]:
    return {"check": check, "level": level, "says": says, **values}


def check_table(done: pl.DataFrame) -> list[dict[str, Any]]:
    """Checks on the runs themselves."""
    found = [_embeddings(done), _warmup(done), *_recipes(done), _flops(done)]
    return [check for check in found if check]


def check_ladder(fit: SingleEpochFit, draws: Array, runs: list[str]) -> list[dict[str, Any]]:
    """Checks on the single-epoch law and the runs that carry it."""
    found = [
        _few(fit),
        _collinear(fit),
        *_ranges(fit),
        _resolution(fit),
        _not_converged(fit),
        _vanished(fit),
        *_unidentified(draws),
        _influential(fit, draws, runs),
        _flat(fit),
        _outside(fit),
    ]
    return [check for check in found if check]


def _few(fit: SingleEpochFit) -> dict[str, Any] | None:
    count = len(fit.ladder)
    if count >= FEW_RUNS:
        return None
    return sentence(
        "few runs",
        f"{count} runs carry {fit.constraint.free} free parameters; intervals from fewer than {FEW_RUNS} runs are wide "
        "and rough: add sizes and budgets, or fix or tie parameters.",
        runs=count,
    )


def _collinear(fit: SingleEpochFit) -> dict[str, Any] | None:
    spreads = np.ptp(fit.ladder.log_n), np.ptp(fit.ladder.log_d)
    if min(spreads) == 0:
        which = "N" if spreads[0] == 0 else "D"
        return sentence(
            "one value", f"all runs have the same {which}: its term cannot be told from E.", value=which
        )
    correlation = float(np.corrcoef(fit.ladder.log_n, fit.ladder.log_d)[0, 1])
    if abs(correlation) < COLLINEAR:
        return None
    return sentence(
        "collinear",
        f"ln N and ln D are correlated at {correlation:.3f}: the runs follow one line, so the terms of N and of D "
        "cannot be told apart; add runs of other D/N.",
        correlation=correlation,
    )


def _ranges(fit: SingleEpochFit) -> list[dict[str, Any]]:
    found = []
    for name, values in (("N", fit.ladder.params), ("D", fit.ladder.tokens)):
        ratio = float(values.max() / values.min())
        if 1 < ratio < DECADE:
            found.append(
                sentence(
                    "narrow range",
                    f"{name} spans a factor of {ratio:.3g}, less than a decade: its exponent rests on little.",
                    quantity=name,
                    ratio=ratio,
                )
            )
    return found


def resolution(losses: Array) -> float:
    """Half the last decimal place in which all losses are written, relative to the median loss; 0 if full precision."""
    for places in range(8):
        if np.all(np.abs(np.round(losses, places) - losses) < 1e-12 * losses):
            return float(0.5 * 10.0**-places / np.median(losses))
    return 0.0


def _resolution(fit: SingleEpochFit) -> dict[str, Any] | None:
    step = resolution(fit.ladder.loss)
    if fit.delta >= step:
        return None
    return sentence(
        "delta below resolution",
        f"delta {fit.delta:.2g} lies below the resolution of the losses ({step:.2g} of a loss): the optimum is a kink "
        "between rounded values; give losses with more decimals or a larger --delta.",
        delta=fit.delta,
        resolution=step,
    )


def _not_converged(fit: SingleEpochFit) -> dict[str, Any] | None:
    if fit.convergence.reached:
        return None
    return sentence(
        "not converged",
        f"{fit.convergence.agreeing} of {fit.convergence.starts} starts agree on the optimum and its scaled gradient "
        f"is {fit.convergence.slope:.1e}: this fit is no result; look at the runs for outliers and collinearity.",
    )


def _vanished(fit: SingleEpochFit) -> dict[str, Any] | None:
    theta, ladder = fit.theta, fit.ladder
    terms = {
        "A/N^alpha": theta[0] - theta[3] * ladder.log_n,
        "B/D^beta": theta[1] - theta[4] * ladder.log_d,
        "E": np.full(len(ladder), theta[2]),
    }
    total = log_loss(theta, ladder.log_n, ladder.log_d)
    gone = [name for name, term in terms.items() if np.exp(term - total).max() < 1e-4]
    gone += [name for name, k in (("alpha", 3), ("beta", 4)) if theta[k] <= 0]
    if not gone:
        return None
    return sentence(
        "vanished", f"{', '.join(gone)} went to nothing in the fit: these runs do not identify it."
    )


def _unidentified(draws: Array) -> list[dict[str, Any]]:
    found = []
    for name, k in (("alpha", 3), ("beta", 4)):
        low_high = interval(draws[:, k])
        if low_high is None or low_high[0] <= 0 or low_high[1] > WIDE * low_high[0]:
            told = (
                "cannot be closed" if low_high is None else "reaches from {:.3g} to {:.3g}".format(*low_high)
            )
            found.append(
                sentence(
                    "not identified",
                    f"the interval of {name} {told}: these runs do not determine it; read neither it nor "
                    "the best split as a result.",
                    parameter=name,
                )
            )
    return found


def _influential(fit: SingleEpochFit, draws: Array, runs: list[str]) -> dict[str, Any] | None:
    moved = np.abs(influence(fit))
    spread = float(np.nanstd(log_forecast(fit, draws)))
    at = int(np.argmax(moved))
    if moved[at] <= 2 * spread or moved[at] < 1e-6:
        return None
    return sentence(
        "influential run",
        f"without run {runs[at]!r} the loss forecast at {FARTHER:g} times the compute moves by {moved[at]:.2%}, "
        f"{moved[at] / spread:.1f} times its standard error: look at that run.",
        run=runs[at],
        moved=float(moved[at]),
    )


def _flat(fit: SingleEpochFit) -> dict[str, Any] | None:
    budget = float(fit.ladder.flops.max())
    width = flat_range(fit.theta, budget)
    if width is None:
        return None
    low, high = width
    return sentence(
        "flat optimum",
        f"at {budget:.2g} FLOPs, N may lie anywhere from {low:.3g} to {high:.3g} for {FLAT_LOSS:.1%} of loss.",
        level="note",
        flops=budget,
        params=[low, high],
    )


def flat_range(theta: Array, flops: float, share: float = FLAT_LOSS) -> tuple[float, float] | None:
    """N between which a budget's loss stays within a share of the best; None where no split is best."""
    log_n, _ = allocation.log_optimum(theta, flops)
    if not np.isfinite(log_n):
        return None
    grid = log_n + np.linspace(-12, 12, 4801)
    log_d = np.log(flops / allocation.FLOPS_PER_PARAM_TOKEN) - grid
    near = grid[log_loss(theta, grid, log_d) <= np.log(allocation.best_loss(theta, flops)) + np.log1p(share)]
    return float(np.exp(near.min())), float(np.exp(near.max()))


def _outside(fit: SingleEpochFit) -> dict[str, Any] | None:
    ladder = fit.ladder
    log_n, log_d = allocation.log_optimum(fit.theta, float(ladder.flops.max()))
    if not np.isfinite(log_n):
        return None
    best = float(np.exp(log_d - log_n))
    ratios = ladder.tokens / ladder.params
    if ratios.min() <= best <= ratios.max():
        return None
    return sentence(
        "best D/N outside",
        f"the best D/N at the largest compute is {best:.3g}, outside the {ratios.min():.3g} to {ratios.max():.3g} of "
        "the runs: the allocation is an extrapolation.",
        best=best,
        trained=[float(ratios.min()), float(ratios.max())],
    )


def _embeddings(done: pl.DataFrame) -> dict[str, Any] | None:
    if "params_total" not in done.columns:
        return None
    excess = done["params_total"] - done["params"]
    if (excess < 0).any():
        run = done["run"][int((excess < 0).arg_true()[0])]
        return sentence(
            "embedding counts", f"run {run!r} has more non-embedding than total parameters.", run=run
        )
    if (excess == 0).any() and (excess > 0).any():
        return sentence(
            "embedding counts",
            "some runs count the same with and without embeddings and others do not: N seems to mix both counts.",
        )
    return None


def _warmup(done: pl.DataFrame) -> dict[str, Any] | None:
    if not {"steps", "warmup_steps"} <= set(done.columns):
        return None
    long = done.filter(pl.col("warmup_steps") > WARMUP_SHARE * pl.col("steps"))
    if not long.height:
        return None
    return sentence(
        "warm-up",
        f"{long.height} runs spend more than {WARMUP_SHARE:.0%} of their steps in warm-up (the first: "
        f"{long['run'][0]!r}): their losses are those of another recipe.",
        runs=long["run"].to_list(),
    )


def _recipes(done: pl.DataFrame) -> list[dict[str, Any]]:
    """Runs of several presets or schedules: their losses differ by more than size and data."""
    found = []
    for name in RECIPE_COLUMNS:
        if name in done.columns and done[name].n_unique() > 1:
            counts = (
                done[name].fill_null("not said").value_counts().sort("count", name, descending=True).rows()
            )
            told = ", ".join(f"{count} of {name} {value!r}" for value, count in counts)
            found.append(
                sentence(
                    f"mixed {name}s",
                    f"one law is fitted to {told}: part of what it says is the difference between them; fit them as "
                    "series of their own.",
                    counts=dict(counts),
                )
            )
    return found


def _flops(done: pl.DataFrame) -> dict[str, Any] | None:
    ratio = (done["flops"] / (allocation.FLOPS_PER_PARAM_TOKEN * done["params"] * done["tokens"])).to_numpy()
    if not len(ratio) or np.abs(np.log(ratio)).max() < np.log(1.05):
        return None
    return sentence(
        "flops convention",
        f"the flops column is {ratio.min():.3g} to {ratio.max():.3g} times 6 N D; the envelope and the scores use the "
        "column, the best split uses 6 N D.",
        level="note",
    )
