"""The section of a law file for repeated data: both fits, their draws, and the pool that forecasts are made of."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechscale.laws import allocation
from speechscale.laws.backtest import UNTESTED_SCALE, widening
from speechscale.laws.checks import POOR_COVERAGE
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forecast_section import split_result
from speechscale.laws.forms import named
from speechscale.laws.minimise import Array
from speechscale.laws.repeated import (
    RATE_GRID,
    RATES,
    RepeatedFit,
    clipped_rates,
    draw_joint,
    draw_rates,
    fit_repeated,
)
from speechscale.laws.repeated_pool import (
    JOINT,
    MIN_REPEATED_RUNS,
    PARTS,
    TWO_STAGES,
    Part,
    RepeatedRuns,
    RepeatedSplit,
    backtest_repeated,
    part_errors,
    pooled_parts,
    run_noise,
)
from speechscale.laws.sections import to_ladder
from speechscale.records.law import FitOptions, rounded
from speechscale.records.law_sections import Check, LossParams, Missing, OpenInterval
from speechscale.records.repeated_sections import (
    JointParams,
    JointRepeatedLaw,
    RateProfile,
    Rates,
    RepeatedBacktest,
    RepeatedLaw,
    RepeatedPool,
    RepeatedRates,
    RepeatedSplitResult,
)
from speechscale.records.seeds import spawn

NOT_BACKTESTED = (
    "not backtested: no split by compute or by unique tokens leaves 7 single-epoch runs or more of 3 sizes and 3 token "
    "counts and 3 multi-epoch runs to fit, and 3 to forecast"
)
PART_NAMES: dict[Part, str] = {TWO_STAGES: "the fit in two stages", JOINT: "the joint fit"}
SPLIT_NAMES = {"compute": "compute", "unique_tokens": "unique tokens"}


def repeated(
    base_law: FittedLaw | None, done: pl.DataFrame, multi: pl.DataFrame, options: FitOptions
) -> RepeatedLaw | Missing:
    """The law of repeated data, in two stages and jointly, and the pool of both.

    Args:
        base_law: the single-epoch law; None where it is missing.
        done: every run that was completed.
        multi: those of more than one epoch.
        options: of the fit.
    """
    if base_law is None:
        return Missing(missing="it builds on the single-epoch law, which is missing")
    if multi.height < MIN_REPEATED_RUNS:
        return Missing(
            missing=f"{multi.height} runs of more than one epoch; {MIN_REPEATED_RUNS} are the least for R_D and R_N"
        )
    runs, unique = to_ladder(multi), multi["unique_tokens"].to_numpy()
    everything = RepeatedRuns(to_ladder(done), done["unique_tokens"].to_numpy())
    rng = np.random.default_rng(spawn(options.seed, "repeated"))
    fit = fit_repeated(base_law.fit, runs, unique)
    rates = draw_rates(fit, base_law.draws, runs, unique, rng)
    joint = fit_repeated(base_law.fit, everything.ladder, everything.unique, joint=True)
    joint_draws = draw_joint(joint, everything.ladder, everything.unique, options.bootstrap, rng)
    return RepeatedLaw(
        **dict(_rates(fit)),
        draws=Rates[list[float]](**_named_rates(rates)),
        note=f"{_excess(base_law, done)} of {done.height} runs have more parameters than the best split gives to their "
        "unique tokens. N' counts such parameters for less even in a run of one epoch, which the single-epoch law of "
        "the first stage does not know: where many runs are like this, trust the joint fit.",
        joint=JointRepeatedLaw(
            **dict(_rates(joint)),
            single_epoch=LossParams[float](**named(joint.theta[:5])),
            draws=_joint_params(joint_draws),
        ),
        pool=_pool(base_law, joint, everything, done["run"].to_list(), options),
        runs=multi["run"].to_list(),
    )


def repeated_checks(law: RepeatedLaw | Missing) -> list[Check]:
    """What forecasts of repeated data are made of, and how they did on the runs themselves."""
    if isinstance(law, Missing):
        return []
    pool = law.pool
    tested = pool.backtest
    poor = isinstance(tested, RepeatedBacktest) and any(
        (split.pool.inside95 or 0.0) < POOR_COVERAGE for split in tested.splits
    )
    verdict = tested.missing if isinstance(tested, Missing) else tested.message
    widened = (
        f"; their intervals are {pool.scale:.2f} times as wide as the draws alone" if pool.scale > 1 else ""
    )
    message = f"{pool.message}; {verdict}{widened}"
    return [Check.of("repeated data", message, "warning" if poor else "note")]


def _pool(
    base_law: FittedLaw, joint: RepeatedFit, runs: RepeatedRuns, names: list[str], options: FitOptions
) -> RepeatedPool:
    """Which fits forecasts are pooled over, by their backtests.

    Args:
        base_law: the single-epoch law.
        joint: the joint fit.
        runs: every completed run.
        names: of the runs.
        options: of the fit.
    """
    counted = np.flatnonzero(runs.ladder.weights > 0)
    runs, names = runs.take(counted), [names[row] for row in counted]
    splits = backtest_repeated(runs, options)
    log_loss = runs.ladder.log_loss
    errors = part_errors(splits, log_loss) if splits else None
    single = len(runs.one_epoch.ladder)
    parts = pooled_parts(errors, single, base_law.fit.constraint.free)
    return RepeatedPool(
        weights={part: (part in parts) / len(parts) for part in PARTS},
        scale=widening([split.pooled(parts) for split in splits], log_loss) if splits else UNTESTED_SCALE,
        noise=run_noise(joint, runs),
        epochs=float(np.max(runs.ladder.tokens / runs.unique)),
        message=_reason(parts, errors, single),
        backtest=_backtest(splits, parts, runs, names, errors),
    )


def _reason(parts: tuple[Part, ...], errors: dict[Part, float] | None, single: int) -> str:
    """Which parts are pooled and why, in a sentence."""
    measured = errors and f"{errors[TWO_STAGES]:.2%} in two stages, {errors[JOINT]:.2%} jointly"
    because = f" (rms error in the backtest: {measured})" if measured else ""
    if parts == PARTS:
        both = " and ".join(PART_NAMES[part] for part in PARTS)
        return f"forecasts of repeated data average {both} in equal parts{because}"
    (part,) = parts
    if not errors:
        because = f", because {single} single-epoch runs are too few to judge a law by"
    return f"forecasts of repeated data come from {PART_NAMES[part]} alone{because}"


def _backtest(
    splits: list[RepeatedSplit],
    parts: tuple[Part, ...],
    runs: RepeatedRuns,
    names: list[str],
    errors: dict[Part, float] | None,
) -> RepeatedBacktest | Missing:
    if not splits or errors is None:
        return Missing(missing=NOT_BACKTESTED)
    results = [
        RepeatedSplitResult(by=split.by, **dict(split_result(split.pooled(parts), runs.ladder, names, 1.0)))
        for split in splits
    ]
    shares = ", ".join(
        f"{result.pool.inside95:.0%} of {result.forecast} at up to {max(result.runs.distance):.3g} times the "
        f"{SPLIT_NAMES[result.by]}"
        for result in results
    )
    rms = max(result.pool.rms for result in results)
    return RepeatedBacktest(
        splits=results,
        rms={str(part): error for part, error in errors.items()},
        message=f"fitted to its smaller runs, the law of repeated data misses its larger multi-epoch runs by {rms:.2%} "
        f"or less (rms); inside the 95 % interval of a new run: {shares}",
    )


def _joint_params(theta: Array) -> JointParams[list[float]]:
    """The draws (S, 7) by name."""
    columns = dict(zip(("log_A", "log_B", "E", "alpha", "beta"), theta[:, :5].T, strict=True))
    columns["E"] = np.exp(columns["E"])
    return JointParams[list[float]](
        **{name: rounded(column) for name, column in columns.items()}, **_named_rates(theta[:, 5:])
    )


def _named_rates(log_rates: Array) -> dict[str, list[float]]:
    """R_D* and R_N* by name, of ln R* (S, 2)."""
    return {name: rounded(clipped_rates(draw)) for name, draw in zip(RATES, log_rates.T, strict=True)}


def _excess(base_law: FittedLaw, runs: pl.DataFrame) -> int:
    """How many runs have parameters in excess in the sense of N'."""
    unique = np.minimum(runs["unique_tokens"].to_numpy(), runs["tokens"].to_numpy())
    with np.errstate(invalid="ignore"):
        matched = allocation.log_params_for(base_law.fit.theta, np.log(unique))
    return int(np.sum(np.log(runs["params"].to_numpy()) > matched))


def _rates(fit: RepeatedFit) -> RepeatedRates:
    profiles = fit.profiles.items()
    return RepeatedRates(
        params=Rates[float](**fit.rates),
        interval95=Rates[OpenInterval](**{name: (profile.low, profile.high) for name, profile in profiles}),
        identified=Rates[bool](**{name: profile.closes for name, profile in profiles}),
        objective=fit.objective,
        near_equal_minima=fit.minima,
        profile=RateProfile(
            at=rounded(RATE_GRID), **{name: rounded(profile.objective) for name, profile in profiles}
        ),
    )
