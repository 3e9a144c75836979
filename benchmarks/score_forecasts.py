"""Do forecasts of scores come true? Score laws of cheap runs against the scores of dearer ones, on real tables.

    python benchmarks/score_forecasts.py TABLES                # about a minute a table
    python benchmarks/score_forecasts.py TABLES --factors 3 10

TABLES holds one CSV a ladder with the columns params and tokens (single-epoch runs), loss where it is known, and for
each score <score>, <score>_chance and <score>_items. benchmarks/forecasts.md says where public tables come from; none
is in this repository.

Of every ladder, runs with C <= C_max/f are fitted by `fit_table`, and every score of each dearer run is forecast at its
N and D by `forecast_runs`: loss by the pooled law, score by its law. Prints, for each ladder and in the mean, the share
of scores inside the 95 % interval, the mean absolute error and the mean width in points. Ladders and, in each, scores
and splits count alike.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws.backtest import MIN_CHEAPER_RUNS
from speechscale.laws.draws import LawDraws
from speechscale.laws.forecasts import forecast_runs
from speechscale.laws.table import fit_table
from speechscale.records.runs_table import read_table
from speechscale.records.score_columns import score_names

FACTORS = (3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Outcome:
    """Forecasts of one score by one split: shares and means over the dearer runs; errors and widths in points."""

    table: str
    score: str
    factor: float
    runs: int
    inside: float
    error: float
    width: float
    interval_score: (
        float  # width and 40 times what is outside, in points: least for the best interval (Gneiting 2007)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path)
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("-o", "--output", type=Path, help="CSV of every score and split")
    chosen = parser.parse_args()
    means, rows = [], []
    print(
        f"{'table':<24}{'factor':>8}{'scores':>8}{'inside':>9}{'error':>9}{'width':>9}{'interval score':>16}"
    )
    for path in sorted(chosen.tables.glob("*.csv")):
        outcomes = [found for factor in chosen.factors for found in evaluate(path, factor)]
        rows += [asdict(found) for found in outcomes]
        for factor in chosen.factors:
            report(path.stem, f"{factor:g}", [found for found in outcomes if found.factor == factor])
        if outcomes:
            means.append(report(path.stem, "all", outcomes))

    print(
        "mean of tables: inside {:.3f}, error {:.2f}, width {:.2f}, interval score {:.2f}".format(
            *np.mean(means, axis=0)
        )
    )
    if chosen.output:
        pl.DataFrame(rows).write_csv(chosen.output)


def evaluate(path: Path, factor: float) -> list[Outcome]:
    """One split of one table; no outcome where the cheaper runs are too few or have no law."""
    table = read_table(path)
    flops = table["flops"].to_numpy()
    cheap = flops <= flops.max() / factor * (1 + 1e-9)
    if cheap.sum() < MIN_CHEAPER_RUNS:
        return []
    cheaper, dearer = table.filter(pl.Series(cheap)), table.filter(pl.Series(~cheap))
    try:
        law = fit_table(cheaper, laws=["single_epoch", "downstream"])
        forecasts = forecast_runs(LawDraws.from_file(law, None), dearer)
    except UserError as error:
        print(f"{path.stem} C_max/{factor:g}: {error}")
        return []
    return [
        outcome(path.stem, name, factor, dearer[name].to_numpy(), forecasts)
        for name in score_names(dearer)
        if name in forecasts.columns
    ]


def outcome(table: str, score: str, factor: float, observed: np.ndarray, forecasts: pl.DataFrame) -> Outcome:
    """The forecasts of one score compared with the observed scores."""
    value, low, high = (100 * forecasts[name].to_numpy() for name in (score, f"{score}_low", f"{score}_high"))
    points = 100 * observed
    outside = np.maximum(low - points, 0) + np.maximum(points - high, 0)
    return Outcome(
        table,
        score,
        factor,
        len(points),
        float(np.mean(outside <= 0)),
        float(np.mean(np.abs(value - points))),
        float(np.mean(high - low)),
        float(np.mean(high - low + 40 * outside)),
    )


def report(table: str, factor: str, outcomes: list[Outcome]) -> tuple[float, float, float, float] | None:
    """Print and return means over scores and splits."""
    if not outcomes:
        return None
    means = tuple(
        float(np.mean([getattr(found, name) for found in outcomes]))
        for name in ("inside", "error", "width", "interval_score")
    )
    print(
        f"{table:<24}{factor:>8}{len(outcomes):>8}{means[0]:>9.3f}{means[1]:>9.2f}{means[2]:>9.2f}{means[3]:>16.2f}",
        flush=True,
    )
    return means


if __name__ == "__main__":
    main()
