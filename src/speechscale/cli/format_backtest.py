"""Backtests in columns, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from speechscale.records.forecast_sections import Backtest, BacktestSplitResult, ForecastErrors
from speechscale.records.law_sections import Missing


def format_backtest(backtests: Mapping[str, Backtest | Missing]) -> str:
    """Every split of every series: errors of each law and of the pool, and the shares inside the pool's intervals."""
    lines: list[str] = []
    for name, found in backtests.items():
        lines += ["", name, "=" * len(name)]
        if isinstance(found, Missing):
            lines.append(f"  {found.missing}")
        else:
            for split in found.splits:
                lines += _split(split)
    return "\n".join(lines).lstrip("\n")


def _split(split: BacktestSplitResult) -> Iterator[str]:
    yield (
        f"  C <= C_max/{split.factor:g}: {split.fitted} runs fitted, {split.forecast} forecast at up to "
        f"{max(split.runs.distance):.3g} times their compute; intervals widened by {split.scale:.2f}"
    )
    yield f"    {'':<18}{'rms':>8}{'bias':>9}{'in 50 %':>9}{'in 80 %':>9}{'in 95 %':>9}"
    for name, errors in split.members.items():
        yield _errors(name, errors)
    yield _errors("pool", split.pool)


def _errors(name: str, errors: ForecastErrors) -> str:
    shares = (errors.inside50, errors.inside80, errors.inside95)
    columns = "".join("" if share is None else f"{share:>9.0%}" for share in shares)
    return f"    {name:<18}{errors.rms:>8.2%}{errors.bias:>+9.2%}{columns}"
