"""The pictures of docs/laws.md: typical failures of fits of scaling laws.

python docs/laws/pictures.py        # writes the SVG files beside it; about half a minute
"""

from __future__ import annotations

from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from scipy.optimize import minimize

from speechscale.laws import fit_single_epoch
from speechscale.laws.allocation import best_loss, log_optimum
from speechscale.laws.checks import flat_range
from speechscale.laws.forms import SingleEpochObjective, log_loss, to_theta
from speechscale.laws.ladder import Ladder
from speechscale.laws.published_laws import PUBLISHED_LAWS
from speechscale.laws.repeated import RATE_GRID, fit_repeated, log_effective
from speechscale.laws.simulate import paper_design
from speechscale.laws.starts import published_starts

HERE = Path(__file__).parent
SPEECH = to_theta(PUBLISHED_LAWS["speech"].params)
WIDTH, HEIGHT = 420, 260
INK, ACCENT = "#4c566a", "#bf4e30"


def ladder(params: np.ndarray, tokens: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Losses of runs under the published speech law."""
    exact = log_loss(SPEECH, np.log(params), np.log(tokens))
    return np.exp(exact + noise * np.random.default_rng(seed).standard_normal(len(params)))


def collinear() -> alt.Chart:
    """Exponents fitted to 60 ladders of the study's shape, and to 60 that keep D/N at 20; far ones at the edge."""
    wide = paper_design()
    sizes = np.geomspace(wide[0].min(), wide[0].max(), 40)
    rows = []
    for name, (params, tokens) in {
        "D/N from 2 to 100": wide,
        "D/N = 20 throughout": (sizes, 20 * sizes),
    }.items():
        for seed in range(60):
            found = fit_single_epoch(params, tokens, ladder(params, tokens, 0.002, seed)).params
            shown = {exponent: float(np.clip(found[exponent], -0.5, 1.0)) for exponent in ("alpha", "beta")}
            rows.append({"ladder": name, **shown})
    points = alt.Chart(pl.DataFrame(rows)).mark_circle(size=40, opacity=0.7)
    truth = alt.Chart(pl.DataFrame({"alpha": [0.25], "beta": [0.24]})).mark_point(
        shape="cross", size=300, color="black"
    )
    colour = alt.Color(
        "ladder:N", scale=alt.Scale(range=[INK, ACCENT]), legend=alt.Legend(orient="top", title=None)
    )
    return points.encode(x="alpha:Q", y="beta:Q", color=colour) + truth.encode(x="alpha:Q", y="beta:Q")


def stalled_starts() -> alt.Chart:
    """Where SciPy's L-BFGS-B ends from 150 published starts, with the sum and with the mean as objective."""
    params, tokens = paper_design()
    loss = ladder(params, tokens, 0.002, 0)
    objective = SingleEpochObjective(np.log(params), np.log(tokens), 1e-3)
    least = fit_single_epoch(params, tokens, loss, delta=1e-3).objective
    rows = []
    for name, weight in {"sum over runs": 1.0, "mean over runs": 1 / len(loss)}.items():

        def both(theta: np.ndarray, weight: float = weight) -> tuple[float, np.ndarray]:
            at = objective(theta[None], np.log(loss), np.full(len(loss), weight), np.zeros(1))
            return at.value[0], at.gradient[0]

        starts = published_starts()[np.random.default_rng(0).permutation(4500)[:150]]
        ends = sorted(minimize(both, s, jac=True, method="L-BFGS-B").fun / weight / least for s in starts)
        rows += [{"objective": name, "start": k, "ratio": max(end, 1.0)} for k, end in enumerate(ends)]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line()
        .encode(
            x=alt.X("start:Q", title="start, best first"),
            y=alt.Y("ratio:Q", scale=alt.Scale(type="log"), title="objective at the end / least objective"),
            color=alt.Color(
                "objective:N",
                scale=alt.Scale(range=[ACCENT, INK]),
                legend=alt.Legend(orient="top", title=None),
            ),
        )
    )


def outlier() -> alt.Chart:
    """alpha of one ladder when its last run is spoilt by up to 10 %, by least squares and by Huber's loss."""
    params, tokens = paper_design()
    rows = []
    for spoilt in np.linspace(0, 0.1, 21):
        loss = ladder(params, tokens, 0.002, 1)
        loss[-1] *= 1 + spoilt
        for name, delta in {"least squares": 10.0, "Huber, default delta": None}.items():
            fit = fit_single_epoch(params, tokens, loss, delta=delta)
            rows.append({"fit": name, "spoilt": spoilt, "forecast": float(best_loss(fit.theta, 1e22))})
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("spoilt:Q", title="error of the largest run's loss", axis=alt.Axis(format="%")),
            y=alt.Y("forecast:Q", scale=alt.Scale(zero=False), title="loss forecast at 1e22 FLOPs"),
            color=alt.Color(
                "fit:N", scale=alt.Scale(range=[INK, ACCENT]), legend=alt.Legend(orient="top", title=None)
            ),
        )
    )


def flat_optimum() -> alt.Chart:
    """Loss of every split of one budget: a factor of four in N costs a thousandth of the loss."""
    budget = 1e21
    best, _ = log_optimum(SPEECH, budget)
    sizes = best + np.linspace(-3, 3, 121)
    losses = np.exp(log_loss(SPEECH, sizes, np.log(budget / 6) - sizes))
    low, high = flat_range(SPEECH, budget) or (0.0, 0.0)
    band = alt.Chart(pl.DataFrame({"low": [low], "high": [high]})).mark_rect(opacity=0.25, color=ACCENT)
    line = alt.Chart(pl.DataFrame({"params": np.exp(sizes), "loss": losses})).mark_line(color=INK)
    scale = alt.Scale(type="log", nice=False)
    return band.encode(x=alt.X("low:Q", scale=scale), x2="high:Q") + line.encode(
        x=alt.X(
            "params:Q",
            scale=scale,
            title="N at 1e21 FLOPs (band: within 0.1 % of the best loss)",
            axis=_decades(),
        ),
        y=alt.Y("loss:Q", scale=alt.Scale(zero=False)),
    )


def open_profile() -> alt.Chart:
    """The least objective at each R_D*, from runs of up to 40 epochs and from runs of up to 2."""
    params = np.repeat([2e7, 8.5e7, 1.5e8, 3e8], 4)
    theta = np.append(SPEECH, np.log([25.0, 31.0]))
    unique = np.full(16, 10.89e9)
    single = paper_design()
    first = fit_single_epoch(*single, ladder(*single, 0.001, 0))
    rows = []
    for name, epochs in {"2 to 40 epochs": [2, 5, 15, 40], "1.2 to 2 epochs": [1.2, 1.4, 1.7, 2]}.items():
        tokens = unique * np.tile(epochs, 4)
        log_n, log_d = log_effective(theta[None], np.log(params), np.log(tokens), np.log(unique))
        noise = 0.002 * np.random.default_rng(0).standard_normal(16)
        loss = np.exp(log_loss(theta[None, :5], log_n, log_d)[0] + noise)
        profile = fit_repeated(first, Ladder.of(params, tokens, loss), unique).profiles["R_D"]
        above = profile.objective / profile.objective.min()
        rows += [
            {"runs": name, "rate": rate, "above": a}
            for rate, a in zip(RATE_GRID, above, strict=True)
            if a < 4
        ]
    return (
        alt.Chart(pl.DataFrame(rows))
        .mark_line()
        .encode(
            x=alt.X("rate:Q", scale=alt.Scale(type="log"), title="R_D*", axis=_decades()),
            y=alt.Y("above:Q", title="least objective / global least", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "runs:N", scale=alt.Scale(range=[ACCENT, INK]), legend=alt.Legend(orient="top", title=None)
            ),
        )
    )


def _decades() -> alt.Axis:
    return alt.Axis(format="~s", values=[10.0**k for k in range(-1, 12)], grid=False)


def main() -> None:
    for picture in (collinear, stalled_starts, outlier, flat_optimum, open_profile):
        chart = picture().properties(width=WIDTH, height=HEIGHT, background="white")
        chart.configure(font="sans-serif").save(HERE / f"{picture.__name__}.svg")
        print(HERE / f"{picture.__name__}.svg")


if __name__ == "__main__":
    main()
