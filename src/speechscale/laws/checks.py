"""Checks of the fitted law and of its forecasts, each reported in one sentence with its numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from speechscale.laws import allocation
from speechscale.laws.allocation import FORECAST_FACTOR
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import MAX_LOG, log_loss
from speechscale.laws.influence import log_forecast
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import EXPONENTS, MIN_EXPONENT, VANISHED_SHARE, SingleEpochFit
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN
from speechscale.records.forecast_sections import ForecastLaw
from speechscale.records.law_sections import Check, Missing

FEW_RUNS = 15
MAX_CORRELATION = 0.95  # of ln N and ln D, beyond which their terms are not separated
DECADE = 10.0
FLAT_EXCESS = 1e-3  # relative excess over the best loss that spans the flat optimum
EXACT_SHARE = 0.03  # of the root mean square residual, up to which a law passes through a run
MAX_EXACT_RUNS = 0.5  # share of such runs, from which the law interpolates
MIN_MISS = 1e-4  # of a loss, below which even the other runs are exact
MAX_NOISE = 0.05  # of ln L; seeds of one recipe differ by 0.001 to 0.005
MIN_GROUP = 4  # runs of a group of residuals
MIN_GROUP_GAP = 0.01  # of a loss, between two groups; seeds of one recipe differ by less
MAX_GROUP_GAP = (
    2.0  # standard deviations within the groups, beyond which the gap between them is none by chance
)
MAX_INTERVAL_RATIO = 4.0  # upper over lower end of an exponent's interval, beyond which it is not determined
MAX_INFLUENCE = 2.0  # standard errors by which one run may move the forecast
MIN_FORECAST_ERROR = 1e-9  # of ln L, below which the standard error is that of rounding
POOR_COVERAGE = 0.8  # of 95 % intervals in a backtest, below which a law forecasts its own runs badly


def check_law(law: FittedLaw, runs: list[str]) -> list[Check]:
    """Checks of the single-epoch law and of the runs that it was fitted to.

    Args:
        law: the fit, its draws and the influence of each run.
        runs: names of the fitted runs, in their order.
    """
    fit = law.fit
    found = [
        _few_runs(fit),
        _collinear(fit),
        *_narrow_ranges(fit),
        _delta_below_resolution(fit),
        _not_converged(fit),
        _vanished(fit),
        *_at_bound(fit),
        *_not_identified(law),
        _interpolated(fit),
        _scattered(fit),
        _two_groups(fit, runs),
        _influential_run(law, runs),
    ]
    if has_best_split(fit):
        found += [_flat_optimum(fit), _ratio_outside_runs(fit)]
    return [check for check in found if check]


def forecast_checks(law: ForecastLaw | Missing | None) -> list[Check]:
    """What a reader of a forecast must know about the backtest of the pooled law."""
    if law is None or isinstance(law, Missing):
        return []
    found = [
        Check.of(
            "member left out",
            f"forecasts do without {member.formula} ({name}): {member.left_out}",
            "note",
        )
        for name, member in law.members.items()
        if member.left_out
    ]
    if isinstance(law.backtest, Missing):
        return [
            *found,
            Check.of("not backtested", law.backtest.missing.removeprefix("not backtested: "), "note"),
        ]
    inside = min(split.pool.inside95 or 0.0 for split in law.backtest.splits)
    if inside < POOR_COVERAGE or law.scale > 1:
        message = (
            f"{law.backtest.message}; so the intervals of forecasts are {law.scale:.2f} times as wide as the draws "
            "alone"
        )
        level: Literal["warning", "note"] = "warning" if inside < POOR_COVERAGE else "note"
        found.append(Check.of("backtest", message, level, scale=law.scale, least_inside95=inside))
    return found


def _few_runs(fit: SingleEpochFit) -> Check | None:
    count = len(fit.ladder)
    if count >= FEW_RUNS:
        return None
    return Check.of(
        "few runs",
        f"{count} runs carry {fit.constraint.free} free parameters; intervals from fewer than {FEW_RUNS} runs are wide "
        "and rough: add sizes and budgets, or fix or tie parameters.",
        runs=count,
    )


def _collinear(fit: SingleEpochFit) -> Check | None:
    spreads = np.ptp(fit.ladder.log_n), np.ptp(fit.ladder.log_d)
    if min(spreads) == 0:
        which = "N" if spreads[0] == 0 else "D"
        return Check.of(
            "one value", f"all runs have the same {which}: its term cannot be separated from E.", value=which
        )
    correlation = float(np.corrcoef(fit.ladder.log_n, fit.ladder.log_d)[0, 1])
    if abs(correlation) < MAX_CORRELATION:
        return None
    return Check.of(
        "collinear",
        f"ln N and ln D are correlated at {correlation:.3f}: the runs follow one line, so the terms of N and of D "
        "cannot be separated; add runs of other D/N.",
        correlation=correlation,
    )


def _narrow_ranges(fit: SingleEpochFit) -> list[Check]:
    found = []
    for name, values in (("N", fit.ladder.params), ("D", fit.ladder.tokens)):
        ratio = float(values.max() / values.min())
        if 1 < ratio < DECADE:
            found.append(
                Check.of(
                    "narrow range",
                    f"{name} spans a factor of {ratio:.3g}, less than a decade: its exponent is poorly determined.",
                    quantity=name,
                    ratio=ratio,
                )
            )
    return found


def resolution(losses: Array) -> float:
    """Half the last decimal place of the losses (n,), relative to their median; 0 at full precision."""
    for places in range(8):
        if np.all(np.abs(np.round(losses, places) - losses) < 1e-12 * losses):
            return float(0.5 * 10.0**-places / np.median(losses))
    return 0.0


def _delta_below_resolution(fit: SingleEpochFit) -> Check | None:
    step = resolution(fit.ladder.loss)
    if fit.delta >= step:
        return None
    return Check.of(
        "delta below resolution",
        f"delta {fit.delta:.2g} is below the resolution of the losses ({step:.2g} of a loss): the optimum is a kink "
        "between rounded values; give losses with more decimals or a larger --delta.",
        delta=fit.delta,
        resolution=step,
    )


def _not_converged(fit: SingleEpochFit) -> Check | None:
    if fit.converged:
        return None
    return Check.of(
        "not converged",
        f"{fit.convergence.agreeing} of {fit.convergence.starts} starts agree on the optimum and its scaled gradient "
        f"is {fit.convergence.gradient:.1e}: this fit is no result; look at the runs for outliers and collinearity.",
    )


def _vanished(fit: SingleEpochFit) -> Check | None:
    theta, ladder = fit.theta, fit.ladder
    log_terms = {
        "A/N^alpha": theta[0] - theta[3] * ladder.log_n,
        "B/D^beta": theta[1] - theta[4] * ladder.log_d,
        "E": np.full(len(ladder), theta[2]),
    }
    total = log_loss(theta, ladder.log_n, ladder.log_d)
    vanished = [name for name, term in log_terms.items() if np.exp(term - total).max() < VANISHED_SHARE]
    if not vanished:
        return None
    return Check.of("vanished", f"{', '.join(vanished)} vanished in the fit: these runs do not identify it.")


def _at_bound(fit: SingleEpochFit) -> list[Check]:
    """Exponents held at their least value, because without a bound loss would rise with N or with D."""
    return [
        Check.of(
            "exponent at bound",
            f"{name} is {'held at' if value == MIN_EXPONENT else 'below'} {MIN_EXPONENT:g}, its least value: in these "
            f"runs loss does not fall with {quantity}, so neither it nor the best split is a result.",
        )
        for name, quantity, value in (("alpha", "N", fit.theta[3]), ("beta", "D", fit.theta[4]))
        if value <= MIN_EXPONENT
    ]


def has_best_split(fit: SingleEpochFit) -> bool:
    """Whether runs differ in N and in D, and loss falls with both: only then is one split of a budget the best."""
    return not fit.undetermined and float(fit.theta[list(EXPONENTS)].min()) > MIN_EXPONENT


def _interpolated(fit: SingleEpochFit) -> Check | None:
    """A law that passes through half of its runs, and misses others by far more."""
    errors = np.abs(fit.residuals)
    exact = errors <= EXACT_SHARE * np.sqrt(np.mean(errors**2))
    if exact.mean() < MAX_EXACT_RUNS or errors.max() < MIN_MISS:
        return None
    missed = errors[~exact]
    return Check.of(
        "interpolated",
        f"the law passes through {exact.sum()} of {len(errors)} runs to within {errors[exact].max():.1g} of their loss "
        f"and misses the others by {missed.min():.2%} to {missed.max():.2%}: {fit.constraint.free} free parameters "
        "interpolate so few runs, so the scatter of the runs is not known well; add runs, or fix or tie parameters.",
        exact=int(exact.sum()),
        missed=[float(missed.min()), float(missed.max())],
    )


def _scattered(fit: SingleEpochFit) -> Check | None:
    """Runs that differ by far more than seeds do."""
    if fit.noise < MAX_NOISE:
        return None
    return Check.of(
        "scatter",
        f"runs scatter by {fit.noise:.1%} around the law, where seeds differ by less than 1 %: look for several "
        "recipes, tokenizers or test sets among them, and fit those as series of their own.",
        noise=fit.noise,
    )


def _two_groups(fit: SingleEpochFit, runs: list[str]) -> Check | None:
    """Residuals that fall into two groups with a gap between them, as those of two recipes do."""
    order = np.argsort(-fit.residuals)  # the highest losses last
    sorted_errors = -fit.residuals[order]
    gaps = np.diff(sorted_errors)[MIN_GROUP - 1 : -(MIN_GROUP - 1)]
    if len(order) < FEW_RUNS or gaps.max() < MIN_GROUP_GAP:
        return None
    split = int(np.argmax(gaps)) + MIN_GROUP
    below, above = sorted_errors[:split], sorted_errors[split:]
    within = np.sqrt((below.var() * len(below) + above.var() * len(above)) / len(order))
    if gaps.max() < MAX_GROUP_GAP * within:
        return None
    names = [runs[row] for row in order[split:]]
    return Check.of(
        "two groups",
        f"the losses fall into two groups: those of {len(above)} runs ({', '.join(names[:3])}, ...) are "
        f"{np.expm1(above.mean() - below.mean()):.1%} above those of the others at the same N and D. Look for another "
        "recipe, tokenizer or test set, and fit them as a series of their own.",
        runs=names,
    )


def _not_identified(law: FittedLaw) -> list[Check]:
    found = []
    for name, k in (("alpha", 3), ("beta", 4)):
        interval = None if name in law.fit.undetermined else percentile_interval(law.draws[:, k])
        if interval is not None and interval[0] > 0 and interval[1] <= MAX_INTERVAL_RATIO * interval[0]:
            continue
        extent = "cannot be closed" if interval is None else "reaches from {:.3g} to {:.3g}".format(*interval)
        found.append(
            Check.of(
                "not identified",
                f"the interval of {name} {extent}: these runs do not determine it; read neither it nor "
                "the best split as a result.",
                parameter=name,
            )
        )
    return found


def _influential_run(law: FittedLaw, runs: list[str]) -> Check | None:
    change = np.abs(law.influence)
    error = float(np.nanstd(log_forecast(law.fit, law.draws)))
    at = int(np.argmax(change))
    # Runs without any scatter have no standard error to compare with.
    if change[at] <= MAX_INFLUENCE * error or change[at] < 1e-6 or error < MIN_FORECAST_ERROR:
        return None
    return Check.of(
        "influential run",
        f"without run {runs[at]!r} the loss forecast at {FORECAST_FACTOR:g} times the compute moves by "
        f"{change[at]:.2%}, {change[at] / error:.1f} times its standard error: look at that run.",
        run=runs[at],
        moved=float(change[at]),
    )


def _flat_optimum(fit: SingleEpochFit) -> Check | None:
    budget = float(fit.ladder.flops.max())
    flat = flat_range(fit.theta, budget)
    if flat is None:
        return None
    return Check.of(
        "flat optimum",
        f"at {budget:.2g} FLOPs, any N from {flat[0]:.3g} to {flat[1]:.3g} costs at most {FLAT_EXCESS:.1%} of loss.",
        level="note",
        flops=budget,
        params=[*flat],
    )


def flat_range(theta: Array, flops: float, excess: float = FLAT_EXCESS) -> tuple[float, float] | None:
    """Smallest and largest N at which a budget's loss is near the best one; None where no split is best.

    Args:
        theta: (5,).
        flops: the budget.
        excess: relative to the best loss of the budget.
    """
    log_n, _ = allocation.log_optimum(theta, flops)
    if not np.isfinite(log_n):
        return None
    grid = log_n + np.linspace(-12, 12, 4801)
    log_d = np.log(flops / FLOPS_PER_PARAM_TOKEN) - grid
    flat = grid[log_loss(theta, grid, log_d) <= np.log(allocation.best_loss(theta, flops)) + np.log1p(excess)]
    ends = np.array([flat.min(), flat.max()])
    return None if np.abs(ends).max() > MAX_LOG else (float(np.exp(ends[0])), float(np.exp(ends[1])))


def _ratio_outside_runs(fit: SingleEpochFit) -> Check | None:
    ladder = fit.ladder
    log_n, log_d = allocation.log_optimum(fit.theta, float(ladder.flops.max()))
    if not np.isfinite(log_n):
        return None
    best = float(np.exp(log_d - log_n))
    ratios = ladder.tokens / ladder.params
    if ratios.min() <= best <= ratios.max():
        return None
    return Check.of(
        "best D/N outside",
        f"the best D/N at the largest compute is {best:.3g}, outside the {ratios.min():.3g} to {ratios.max():.3g} of "
        "the runs: the allocation is an extrapolation.",
        best=best,
        trained=[float(ratios.min()), float(ratios.max())],
    )
