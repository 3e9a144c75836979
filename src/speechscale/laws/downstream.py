"""Laws of a score: with compute on its envelope, with loss, between chance and a ceiling, and where it emerges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.allocation import flops_for
from speechscale.laws.minimise import Array
from speechscale.laws.scores import CEILING, Saturating, Scored, binomial_variance, fit_line, fit_saturating

LEAST_RUNS = 5
NORMAL_975 = 1.959963984540054
ONE_BUDGET = 0.05  # spread of ln C below which runs have the same compute
CHEAP_SHARE = 2 / 3  # of the runs, the cheapest, that a form is fitted to when its forecasts are compared


@dataclass(frozen=True)
class ScoreData:
    """Runs of one series with one score, cheapest first; all (n,)."""

    flops: Array
    loss: Array
    score: Array  # fraction of right answers
    items: Array  # not a number where unknown
    chance: float

    @classmethod
    def of(cls, flops: Array, loss: Array, score: Array, items: Array, chance: float) -> ScoreData:
        order = np.argsort(flops, kind="stable")
        return cls(flops[order], loss[order], score[order], items[order], chance)

    @property
    def has_losses(self) -> bool:
        """Whether every run has a loss; models that others trained have scores alone."""
        return bool(np.isfinite(self.loss).all())

    @property
    def variance(self) -> Array:
        """Binomial variance of each score; equal for all where the number of items is unknown."""
        if np.isfinite(self.items).all():
            return binomial_variance(self.score, self.items)
        return np.full(len(self.score), max(float(np.var(self.score)), 1e-8))

    def on_loss(self, rows: slice = slice(None)) -> Scored:
        return Scored(-self.loss[rows], self.score[rows], self.variance[rows], self.chance)

    def on_compute(self, rows: slice = slice(None)) -> Scored:
        return Scored(np.log(self.flops[rows]), self.score[rows], self.variance[rows], self.chance)


@dataclass(frozen=True)
class PowerLaw:
    """Q = coefficient C^gamma through the best scores reached at each compute; draws (S,) of gamma beside it."""

    coefficient: float
    gamma: float
    draws: Array
    records: Array  # rows that hold a record


@dataclass(frozen=True)
class Emergence:
    """The budget at which the score is expected to stand clear of chance, and what may be said of it."""

    margin: float
    flops: float | None
    draws: Array  # (S,), infinite where a draw never gets there
    message: str


@dataclass(frozen=True)
class Downstream:
    data: ScoreData
    power: PowerLaw
    line: (
        tuple[float, float, float, float] | None
    )  # slope, intercept, r2, standard error of the slope; None where a run has no loss
    with_loss: Saturating | None
    with_compute: Saturating | None
    forecast_errors: dict[str, float]  # root mean square error on the dearest runs, by form
    emergence: Emergence


def fit_downstream(
    data: ScoreData,
    laws: Array | None,
    *,
    ceiling: float | None = CEILING,
    resamples: int = 1000,
    seed: int = 0,
) -> Downstream:
    """Fit every form to one score.

    Args:
        laws: theta of the single-epoch law and draws of it, (S + 1, 5); None where there is no such law.
        ceiling: best score possible; None to fit it.
    """
    with_loss, line = None, None
    if data.has_losses:
        with_loss = fit_saturating(data.on_loss(), ceiling=ceiling, draws=resamples, seed=seed)
        line = fit_line(data.loss, data.score, 1 / data.variance)
    with_compute = fit_saturating(data.on_compute(), ceiling=ceiling, draws=resamples, seed=seed)
    power = fit_power(data, resamples, seed)
    return Downstream(
        data=data,
        power=power,
        line=line,
        with_loss=with_loss,
        with_compute=with_compute,
        forecast_errors=compare_forms(data, ceiling),
        emergence=_emergence(data, power, line, with_loss, with_compute, laws),
    )


def fit_power(data: ScoreData, resamples: int, seed: int) -> PowerLaw:
    """Q = k C^gamma on the running maximum, with draws of gamma from resampled runs and items."""
    rng = np.random.default_rng(seed)
    count = len(data.score)
    noise = rng.standard_normal((resamples, count)) * np.sqrt(data.variance)
    in_bag = rng.multinomial(count, np.full(count, 1 / count), resamples) > 0
    scores = np.vstack([data.score, np.where(in_bag, data.score + noise, -np.inf)])
    record = np.isfinite(scores) & (scores > 0)
    record[:, 1:] &= scores[:, 1:] > np.maximum.accumulate(scores, axis=1)[:, :-1]
    x = np.log(data.flops)
    weights = record * data.score**2 / data.variance  # of ln Q
    log_q = np.log(np.where(record, scores, 1.0))
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = weights @ x / total, (weights * log_q).sum(axis=1) / total
        apart = x - mean_x[:, None]
        gamma = (weights * apart * log_q).sum(axis=1) / (weights * apart**2).sum(axis=1)
        spread = (weights * apart**2).sum(axis=1) / total
    # All records at one compute: no dearer run ever beat the cheapest, so the score has not grown.
    gamma = np.where(spread > ONE_BUDGET**2, gamma, 0.0)
    return PowerLaw(float(np.exp(mean_y[0] - gamma[0] * mean_x[0])), float(gamma[0]), gamma[1:], record[0])


def compare_forms(data: ScoreData, ceiling: float | None) -> dict[str, float]:
    """How far each form misses the dearest third of the runs when it is fitted to the others."""
    cheap = int(np.ceil(CHEAP_SHARE * len(data.score)))
    if cheap < 4 or cheap == len(data.score):
        return {}
    past, future = slice(0, cheap), slice(cheap, None)
    early = ScoreData(data.flops[past], data.loss[past], data.score[past], data.items[past], data.chance)
    power = fit_power(early, 0, 0)
    forecasts = {
        "chance": np.full(len(data.score) - cheap, data.chance),
        "mean": np.full(len(data.score) - cheap, np.average(early.score, weights=1 / early.variance)),
        "power_compute": power.coefficient * data.flops[future] ** power.gamma,
    }
    curves = [("saturating_compute", early.on_compute(), data.on_compute(future))]
    if data.has_losses:
        slope, intercept, *_ = fit_line(early.loss, early.score, 1 / early.variance)
        forecasts["linear_loss"] = slope * data.loss[future] + intercept
        curves.append(("saturating_loss", early.on_loss(), data.on_loss(future)))
    for name, seen, unseen in curves:
        curve = fit_saturating(seen, ceiling=ceiling)
        if curve is not None:
            forecasts[name] = curve.score(unseen.x)
    errors = {name: float(np.sqrt(np.mean((f - data.score[future]) ** 2))) for name, f in forecasts.items()}
    # Scores of nothing but zeros have no power law.
    return {name: error for name, error in errors.items() if np.isfinite(error)}


def _emergence(
    data: ScoreData,
    power: PowerLaw,
    line: tuple[float, float, float, float] | None,
    with_loss: Saturating | None,
    with_compute: Saturating | None,
    laws: Array | None,
) -> Emergence:
    items = float(np.nanmedian(data.items)) if np.isfinite(data.items).any() else np.nan
    spread = (
        data.chance * (1 - data.chance) / items if np.isfinite(items) else float(np.median(data.variance))
    )
    margin = NORMAL_975 * float(np.sqrt(spread))
    if data.chance + margin >= 1:
        return Emergence(
            margin, None, np.array([]), "the law cannot say: too few items to tell any score from chance"
        )
    nothing = np.full(0, np.inf)
    if line is None:
        laws = None  # of loss they speak, and these runs have none
    curve = with_loss if laws is not None else with_compute
    if curve is None:
        return Emergence(margin, None, nothing, "the law cannot say: these scores do not rise above chance")
    if line is None and not np.nanquantile(power.draws, 0.025) > 0:
        return Emergence(
            margin,
            None,
            nothing,
            "the law cannot say: no rise of the score with compute is certain in these runs",
        )
    if line is not None and not line[0] + NORMAL_975 * line[3] < 0:
        return Emergence(
            margin,
            None,
            nothing,
            "the law cannot say: no rise of the score with falling loss is certain in these runs",
        )
    if laws is None:
        with np.errstate(over="ignore"):
            flops = np.exp(curve.at(data.chance + margin))
        path = "along the path of these runs"
    else:
        rows = min(len(laws), len(curve.curves))
        flops = flops_for(laws[:rows], -curve.at(data.chance + margin)[:rows])
        path = "with the best split of each budget"
    if not np.isfinite(flops[0]):
        return Emergence(
            margin,
            None,
            flops[1:],
            "the law expects it never: the loss it takes lies below the irreducible loss E",
        )
    reached = "within" if flops[0] <= data.flops.max() else f"{flops[0] / data.flops.max():.3g} times beyond"
    if flops[0] < data.flops.min():
        reached = "below"
    message = f"expected above chance by {margin:.3f} from {flops[0]:.3g} FLOPs on, {path}: {reached} the runs' compute"
    return Emergence(margin, float(flops[0]), flops[1:], message)
