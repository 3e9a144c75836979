"""The content of a law file in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from speechscale.records.forecast_sections import ForecastLaw
from speechscale.records.law import LawFile, SeriesLaw
from speechscale.records.law_sections import (
    Check,
    EnvelopeLaw,
    IsoflopLaw,
    Missing,
    MissingIsoflopLaw,
    OpenInterval,
    SingleEpochLaw,
)
from speechscale.records.repeated_sections import RepeatedLaw, RepeatedRates
from speechscale.records.score_law_sections import ScoreCurveLaw, ScoreLaw


def format_law(law: LawFile) -> str:
    """A summary: every law with its intervals, what is missing and why, and the checks."""
    lines: list[str] = []
    for name, content in law.series.items():
        lines += ["", name, "=" * len(name), *_series(content)]
    if not isinstance(law.efficiency, Missing):
        for pair, scores in law.efficiency.items():
            lines += [
                f"  {pair}, {score}: {found.missing if isinstance(found, Missing) else found.message}"
                for score, found in scores.items()
            ]
    return "\n".join(lines).lstrip("\n")


def _series(content: SeriesLaw) -> Iterator[str]:
    yield f"{content.rows.used} runs used, {len(content.rows.dropped)} left out by rule (named in the file)"
    yield from _law("single epoch, L = E + A/N^alpha + B/D^beta", content.single_epoch)
    if isinstance(content.single_epoch, SingleEpochLaw):
        split = content.single_epoch.allocation
        yield "  best split, N = G (C/6)^a"
        yield from _parameters({"a": split.a, "b": split.b, "G": split.G}, split.interval95)
    yield from _law("repeated data (two stages)", content.repeated)
    if isinstance(content.repeated, RepeatedLaw):
        yield from _law("repeated data (all seven jointly)", content.repeated.joint)
        yield f"  {content.repeated.pool.message}"
    yield from _law("envelope, L = k C^gamma", content.envelope)
    yield from _isoflop(content.isoflop)
    yield from _scores(content.downstream)
    yield from _forecast(content.forecast)
    yield from format_checks(content.checks)


def format_checks(checks: Sequence[Check]) -> Iterator[str]:
    """A line for each check; warnings begin with an exclamation mark."""
    for check in checks:
        yield f"  {'!' if check.level == 'warning' else '-'} {check.check}: {check.message}"


def _isoflop(law: IsoflopLaw | MissingIsoflopLaw | None) -> Iterator[str]:
    """The minima of the budgets, each beside that of the loss law."""
    yield from _law("IsoFLOP minima, N = G (C/6)^a", law)
    if not isinstance(law, IsoflopLaw):
        return
    if law.by_law is not None:
        yield _parameter("a by the law", law.by_law.a, law.by_law.interval95)
    for budget in law.budgets:
        if budget.params is None:
            continue
        by_law = budget.by_law
        beside = f"; by the law {_value(by_law.params, by_law.interval95)}" if by_law else ""
        yield f"    N at {budget.flops:.3g} FLOPs: {_value(budget.params, budget.interval95)}{beside}"


def _value(value: float | None, interval: OpenInterval | None) -> str:
    number = "none" if value is None else f"{value:.3g}"
    return f"{number} {_interval(interval)}".rstrip()


def _forecast(law: ForecastLaw | Missing | None) -> Iterator[str]:
    """The members of the pool, and what the backtest says of it."""
    if law is None:
        return
    if isinstance(law, Missing):
        yield f"  forecasts: {law.missing}"
        return
    yield "  forecasts, pooled in equal parts over"
    for member in law.members.values():
        values = ", ".join(
            f"{name} {value:.3g}" for name, value in member.params if not name.startswith("log_")
        )
        without = f"; left out: {member.left_out}" if member.left_out else ""
        yield f"    {member.formula:<36}{values}; noise {member.noise:.2%}{without}"
    yield f"  {law.backtest.missing if isinstance(law.backtest, Missing) else law.backtest.message}"


def _scores(downstream: Mapping[str, ScoreLaw | Missing] | Missing | None) -> Iterator[str]:
    if downstream is None or isinstance(downstream, Missing):
        yield from _law("scores", downstream)
        return
    for score, law in downstream.items():
        if isinstance(law, Missing):
            yield from _law(f"{score}, Q ~ C^gamma", law)
        else:
            yield f"  {score}, Q ~ C^gamma"
            yield _parameter("gamma", law.gamma, law.interval95)
            yield f"    {law.emergence.message}"
            curves = law.by_compute if isinstance(law.by_loss, Missing) else law.by_loss
            yield from _score_curves(curves)


def _score_curves(curves: ScoreCurveLaw | Missing) -> Iterator[str]:
    """The curves that forecasts are pooled over, and what their backtest says."""
    if isinstance(curves, Missing):
        yield f"    forecasts: {curves.missing}"
        return
    for name, member in curves.members.items():
        params = member.params
        yield (
            f"    {name} in {curves.against}: midpoint {params.midpoint:.3g}, steepness {params.steepness:.3g}, "
            f"ceiling {params.ceiling:.3g}; residual variance {member.dispersion:.3g} times that of the items"
        )
    backtest = curves.backtest
    yield f"    {backtest.missing if isinstance(backtest, Missing) else backtest.message}"


def _law(
    title: str, law: SingleEpochLaw | RepeatedRates | EnvelopeLaw | IsoflopLaw | Missing | None
) -> Iterator[str]:
    """A law that was fitted or is missing; nothing for one that was not asked for."""
    if isinstance(law, Missing):
        yield f"  {title}: missing: {law.missing}"
    elif law is not None:
        yield f"  {title}"
        yield from _parameters(dict(law.params), law.interval95)


def _parameters(values: Mapping[str, float | None], intervals: BaseModel | None) -> Iterator[str]:
    for name, value in values.items():
        interval = getattr(intervals, name, None)
        missing = intervals is not None and interval is None
        yield _parameter(name, value, interval) + "no interval" * missing


def _parameter(name: str, value: float | None, interval: OpenInterval | None) -> str:
    number = "none" if value is None else f"{value:.4g}"
    return f"    {name:<12}{number:>12}  {_interval(interval)}"


def _interval(interval: OpenInterval | None) -> str:
    if interval is None:
        return ""
    low, high = ("open" if end is None else f"{end:.4g}" for end in interval)
    return f"[{low}, {high}]" + ("  not identified" if None in interval else "")
