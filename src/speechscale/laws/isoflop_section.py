"""The section of a law file for IsoFLOP minima, beside those of the loss law, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.draws import LawDraws
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.isoflop import IsoflopDraws, IsoflopFit, draw_minima, fit_isoflop, law_minima
from speechscale.laws.minimise import Array
from speechscale.laws.sections import finite_or_none, to_ladder
from speechscale.records.law import FitOptions, SeriesLaw
from speechscale.records.law_sections import (
    Check,
    Interval,
    IsoflopBudget,
    IsoflopLaw,
    LawExponent,
    LawMinimum,
    Missing,
    MissingIsoflopLaw,
    Split,
    SplitExponents,
)
from speechscale.records.seeds import spawn_seed

ISOFLOP_DRAWS = 200  # enough for a 95 % interval; each fits every budget again


def isoflop(
    single: pl.DataFrame, base_law: FittedLaw | None, law: SeriesLaw, options: FitOptions
) -> IsoflopLaw | MissingIsoflopLaw:
    """The IsoFLOP minima by the `flops` column, and those of the loss law.

    Args:
        single: completed runs of one epoch.
        base_law: the additive law, whose noise gives intervals; None where it is missing.
        law: the laws fitted so far, of which the pool is compared, or the additive law where there is none.
        options: of the fit.
    """
    ladder, flops = to_ladder(single), single["flops"].to_numpy()
    found = fit_isoflop(ladder, flops)
    if found.split is None or base_law is None:
        budgets = _budgets(found, None, None, None)
        if found.split is None:
            return MissingIsoflopLaw(missing=found.missing, budgets=budgets)
        return IsoflopLaw(params=Split[float](**found.split), budgets=budgets)
    seed = spawn_seed(options.seed, "isoflop")
    draws = draw_minima(ladder, flops, base_law.fit.noise, ISOFLOP_DRAWS, seed)
    loss_law = _loss_law(law)
    rows = None if loss_law is None else _law_rows(loss_law, found)
    section = IsoflopLaw(
        params=Split[float](**found.split),
        budgets=_budgets(found, draws, loss_law, rows),
        interval95=SplitExponents(a=percentile_interval(draws.a), b=percentile_interval(draws.b)),
    )
    if loss_law is None or rows is None:
        return section
    return section.model_copy(update={"by_law": _law_exponent(loss_law, found, rows)})


def isoflop_checks(law: IsoflopLaw | MissingIsoflopLaw) -> list[Check]:
    """One warning where minima or their exponent and the loss law's disagree beyond the intervals of both."""
    if isinstance(law, Missing):
        return []
    found = list(_disagreements(law))
    if not found:
        return []
    return [
        Check.of(
            "isoflop disagrees",
            f"the IsoFLOP minima and the loss law disagree beyond their intervals: {'; '.join(found)}. The form of the "
            "law does not fit these runs around the best size; inside their budgets trust the minima.",
        )
    ]


def _disagreements(law: IsoflopLaw) -> Iterator[str]:
    """Every quantity whose two intervals have no number in common, in words."""
    if law.by_law is not None and law.interval95 is not None:
        exponents = law.interval95.a, law.by_law.interval95
        if _are_apart(*exponents):
            yield _comparison("the exponent a", law.params.a, law.by_law.a, exponents)
    for budget in law.budgets:
        if budget.by_law is not None and _are_apart(budget.interval95, budget.by_law.interval95):
            name = f"N at {budget.flops:.3g} FLOPs"
            ends = budget.interval95, budget.by_law.interval95
            yield _comparison(name, budget.params, budget.by_law.params, ends)


def _comparison(
    name: str, own: float | None, by_law: float | None, ends: tuple[Interval | None, Interval | None]
) -> str:
    values = [
        f"{value:.3g} [{low:.3g}, {high:.3g}]"
        for value, (low, high) in zip((own, by_law), (end or (np.nan, np.nan) for end in ends), strict=True)
        if value is not None
    ]
    return f"{name} is {' against '.join(values)}"


def _are_apart(one: Interval | None, other: Interval | None) -> bool:
    return one is not None and other is not None and (one[1] < other[0] or other[1] < one[0])


def _loss_law(law: SeriesLaw) -> LawDraws | None:
    """The law that forecasts come from; None where none converged."""
    try:
        return LawDraws.from_series(law, "")
    except UserError:
        return None


def _law_rows(law: LawDraws, found: IsoflopFit) -> Array:
    """Ln N_opt (R, B) by every row of the loss law, at the budgets with a minimum; NaN at the others."""
    rows = np.full((len(law.theta), len(found.slices)), np.nan)
    kept = [k for k, minimum in enumerate(found.minima) if minimum.params is not None]
    slices = [found.slices[k] for k in kept]
    rows[:, kept] = law_minima(slices, [law.log_loss(one.log_n, one.log_d) for one in slices])
    return rows


def _budgets(
    found: IsoflopFit, draws: IsoflopDraws | None, law: LawDraws | None, rows: Array | None
) -> list[IsoflopBudget]:
    """The budgets for the file; what is not known is not set."""
    budgets = []
    for k, minimum in enumerate(found.minima):
        values: dict[str, object] = {
            name: value for name, value in vars(minimum).items() if value is not None
        }
        if draws is not None and minimum.params is not None:
            values["interval95"] = _interval(draws.log_n[:, k])
        if law is not None and rows is not None and minimum.params is not None:
            values["by_law"] = LawMinimum(
                params=finite_or_none(float(np.exp(law.centre(rows[:, k])))),
                interval95=_interval(law.widened(rows[:, k])),
            )
        budgets.append(IsoflopBudget.model_validate(values))
    return budgets


def _law_exponent(law: LawDraws, found: IsoflopFit, rows: Array) -> LawExponent:
    """The exponent through the law's minima at the budgets that have one."""
    kept = [k for k, minimum in enumerate(found.minima) if minimum.params is not None]
    log_c = np.log([found.minima[k].flops for k in kept])
    centred = log_c - log_c.mean()
    a = rows[:, kept] @ (centred / (centred @ centred))
    return LawExponent(a=finite_or_none(float(law.centre(a))), interval95=percentile_interval(law.widened(a)))


def _interval(log_draws: Array) -> Interval | None:
    """The central 95 % of what draws are the logarithm of."""
    ends = percentile_interval(log_draws)
    return None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))
