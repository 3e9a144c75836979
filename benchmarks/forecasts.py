"""Do the forecasts come true? Pooled laws against the published one on a folder of real ladders.

    python benchmarks/forecasts.py LADDERS                # a minute or two a ladder
    python benchmarks/forecasts.py LADDERS --factors 3 10
    python benchmarks/forecasts.py LADDERS --chinchilla   # beside the package of this name, installed by hand

LADDERS holds one CSV a ladder with the columns params, tokens and loss (single-epoch runs). The name up to the first
"_" is its family, and families count alike. benchmarks/forecasts.md says where public ladders come from; none is in
this repository.

Of every ladder, runs with C <= C_max/f are fitted, and each dearer run is forecast at its own N and D. Prints the share
of dearer runs inside the 95 % interval of a new run, the rms error of ln L relative to the published law, and the width
of the interval relative to that of the published law (geometric means).
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from speechscale.laws.backtest import backtest, widening
from speechscale.laws.bootstrap import draw_laws
from speechscale.laws.forms import log_loss
from speechscale.laws.ladder import Ladder
from speechscale.laws.sections import to_ladder
from speechscale.laws.single_epoch import fit_single_epoch
from speechscale.records.runs_table import read_table

FACTORS = (3.0, 10.0, 30.0, 100.0)
EPOCH_DELTA = 1e-3  # Besiroglu et al. 2024, after Hoffmann et al. 2022
DRAWS = 1000
SEED = 0


@dataclass(frozen=True)
class Outcome:
    """One split: shares inside intervals, rms errors of ln L, and mean widths of ln L."""

    family: str
    inside: float
    inside_unwidened: float
    inside_published: float
    errors: dict[str, float]
    width: float
    width_published: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ladders", type=Path)
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS)
    parser.add_argument("--chinchilla", action="store_true", help="fit with chinchilla 0.2.0 from PyPI, too")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", OptimizeWarning)
    outcomes = []
    for path in sorted(chosen.ladders.glob("*.csv")):
        outcomes += evaluate(path, tuple(chosen.factors), chosen.chinchilla)
    by_family: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_family[outcome.family].append(outcome)
    rows = {family: summary(found) for family, found in by_family.items()}
    print(f"\n{'family':<16}" + "".join(f"{name:>16}" for name in next(iter(rows.values()))))
    for family, row in rows.items():
        print(f"{family:<16}" + "".join(f"{value:>16.3f}" for value in row.values()))
    shares = ("inside", "unwidened", "published")
    for name, mean in (("arithmetic", np.mean), ("geometric", lambda v: np.exp(np.mean(np.log(v))))):
        values = {key: mean([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
        kept = {key: value for key, value in values.items() if (key in shares) == (name == "arithmetic")}
        print(f"{name} mean over families: " + ", ".join(f"{key} {value:.3f}" for key, value in kept.items()))


def evaluate(path: Path, factors: tuple[float, ...], chinchilla: bool) -> list[Outcome]:
    """Every split of one ladder that its runs allow."""
    ladder = to_ladder(read_table(path))
    outcomes = []
    for split in backtest(ladder, SEED, factors, DRAWS):
        cheaper, dearer = ladder.take(split.cheaper), ladder.take(split.dearer)
        scale = widening(backtest(cheaper, SEED), cheaper.log_loss)
        low, high = split.interval(0.95, scale)
        bare_low, bare_high = split.interval(0.95)
        published, published_low, published_high = published_law(cheaper, dearer)
        observed = dearer.log_loss
        forecasts = {
            "pooled": split.centre,
            "published": published,
            "epoch": additive(cheaper, dearer, EPOCH_DELTA),
            "scipy": least_squares(cheaper, dearer),
            "power in C": power_law(cheaper, dearer),
        }
        if chinchilla:
            forecasts["chinchilla"] = chinchilla_package(cheaper, dearer)
        outcome = Outcome(
            path.stem.partition("_")[0],
            inside(observed, low, high),
            inside(observed, bare_low, bare_high),
            inside(observed, published_low, published_high),
            {name: float(np.sqrt(np.mean((row - observed) ** 2))) for name, row in forecasts.items()},
            float(np.exp(np.mean(np.log(high - low)))),
            float(np.exp(np.mean(np.log(published_high - published_low)))),
        )
        print(
            f"{path.stem:<20} C_max/{split.factor:<4g} {len(cheaper):>4} fitted {len(dearer):>4} forecast  inside "
            f"{outcome.inside:.2f} (published {outcome.inside_published:.2f})  rms "
            + "  ".join(f"{name} {error:.2%}" for name, error in outcome.errors.items())
            + f"  widened {scale:.2f}",
            flush=True,
        )
        outcomes.append(outcome)
    return outcomes


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Means over the splits of a family; errors and widths relative to the published law."""
    ratios = {
        f"rms {name}": float(
            np.exp(np.mean([np.log(o.errors[name] / o.errors["published"]) for o in outcomes]))
        )
        for name in outcomes[0].errors
        if name != "published"
    }
    return {
        "inside": float(np.mean([o.inside for o in outcomes])),
        "unwidened": float(np.mean([o.inside_unwidened for o in outcomes])),
        "published": float(np.mean([o.inside_published for o in outcomes])),
        **ratios,
        "width": float(np.exp(np.mean([np.log(o.width / o.width_published) for o in outcomes]))),
    }


def inside(observed: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean((low <= observed) & (observed <= high)))


def published_law(cheaper: Ladder, dearer: Ladder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ln L by the additive law and the 95 % interval of a new run, as before the pool."""
    fit = fit_single_epoch(cheaper.params, cheaper.tokens, cheaper.loss, weights=cheaper.weights)
    drawn = log_loss(draw_laws(fit, DRAWS, SEED), dearer.log_n, dearer.log_d)
    drawn += fit.noise * np.random.default_rng(SEED).standard_normal(drawn.shape)
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return log_loss(fit.theta[None], dearer.log_n, dearer.log_d)[0], low, high


def additive(cheaper: Ladder, dearer: Ladder, delta: float) -> np.ndarray:
    fit = fit_single_epoch(cheaper.params, cheaper.tokens, cheaper.loss, delta=delta)
    return log_loss(fit.theta[None], dearer.log_n, dearer.log_d)[0]


def least_squares(cheaper: Ladder, dearer: Ladder) -> np.ndarray:
    """SciPy's curve_fit of L from the published speech law, as a first script would do it."""

    def law(logs: np.ndarray, e: float, a: float, b: float, alpha: float, beta: float) -> np.ndarray:
        return e + np.exp(a - alpha * logs[0]) + np.exp(b - beta * logs[1])

    start = (0.8 * float(cheaper.loss.min()), 5.0, 5.0, 0.3, 0.3)
    logs = np.stack([cheaper.log_n, cheaper.log_d])
    try:
        found, _ = curve_fit(law, logs, cheaper.loss, p0=start, maxfev=20_000)
    except RuntimeError:
        found = start
    predicted = law(np.stack([dearer.log_n, dearer.log_d]), *found)
    return np.log(np.maximum(predicted, 1e-3))


def chinchilla_package(cheaper: Ladder, dearer: Ladder) -> np.ndarray:
    """The additive law by `chinchilla` 0.2.0 (PyPI), with the ranges of its README and three starts a parameter."""
    from chinchilla import Chinchilla

    starts = {
        "E": np.linspace(1, 2, 3),
        "a": np.linspace(1, 10, 3),
        "b": np.linspace(1, 10, 3),
        "alpha": np.linspace(0.1, 0.7, 3),
        "beta": np.linspace(0.1, 0.7, 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = Chinchilla(folder, param_grid=starts, log_level=50)
        for params, tokens, loss in zip(cheaper.params, cheaper.tokens, cheaper.loss, strict=True):
            found.append(N=params, D=tokens, loss=loss)
        found.fit()
    predicted = np.array(
        [found.predict_loss(n, d) for n, d in zip(dearer.params, dearer.tokens, strict=True)]
    )
    return np.log(np.maximum(predicted.astype(float), 1e-3))


def power_law(cheaper: Ladder, dearer: Ladder) -> np.ndarray:
    """Ln L linear in ln C."""
    slope, level = np.polyfit(np.log(cheaper.flops), cheaper.log_loss, 1)
    return level + slope * np.log(dearer.flops)


if __name__ == "__main__":
    main()
