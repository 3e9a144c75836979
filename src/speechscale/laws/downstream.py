"""Laws of a score: with compute on its envelope, with loss, between chance and a ceiling, and where it emerges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.allocation import flops_for
from speechscale.laws.bootstrap import NORMAL_975
from speechscale.laws.minimise import Array
from speechscale.laws.scores import (
    CEILING,
    Line,
    SaturatingCurves,
    ScorePoints,
    binomial_variance,
    fit_line,
    fit_saturating,
)
from speechscale.records.seeds import spawn_seed

MIN_RUNS = 5
ONE_BUDGET = 0.05  # spread of ln C below which runs count as of the same compute
CHEAP_SHARE = 2 / 3  # of the runs, the cheapest, that a form is fitted to when its forecasts are compared


@dataclass(frozen=True)
class ScoreData:
    """Runs of one series with one score, cheapest first; arrays (n,)."""

    flops: Array
    loss: Array
    score: Array  # fraction of right answers
    items: Array  # NaN where unknown
    chance: float

    @classmethod
    def of(cls, flops: Array, loss: Array, score: Array, items: Array, chance: float) -> ScoreData:
        """Sort n runs by compute.

        Args:
            flops: compute of each run, (n,).
            loss: test loss, (n,); NaN where a run has none.
            score: fraction of right answers, (n,).
            items: number of items, (n,); NaN where unknown.
            chance: score of guessing.
        """
        order = np.argsort(flops, kind="stable")
        return cls(flops[order], loss[order], score[order], items[order], chance)

    @property
    def has_losses(self) -> bool:
        """Whether every run has a loss; models that others trained have scores alone."""
        return bool(np.isfinite(self.loss).all())

    @property
    def variance(self) -> Array:
        """Binomial variance of each score (n,); the same for all where the number of items is unknown."""
        if np.isfinite(self.items).all():
            return binomial_variance(self.score, self.items)
        return np.full(len(self.score), max(float(np.var(self.score)), 1e-8))

    def on_loss(self, rows: slice = slice(None)) -> ScorePoints:
        """The scores of some runs against -loss."""
        return ScorePoints(-self.loss[rows], self.score[rows], self.variance[rows], self.chance)

    def on_compute(self, rows: slice = slice(None)) -> ScorePoints:
        """The scores of some runs against ln C."""
        return ScorePoints(np.log(self.flops[rows]), self.score[rows], self.variance[rows], self.chance)


@dataclass(frozen=True)
class ScorePowerLaw:
    """Q = coefficient C^gamma through the running maximum of the scores, with draws (S,) of gamma."""

    coefficient: float
    gamma: float
    draws: Array
    records: Array  # (n,) bool: which runs beat every cheaper one


@dataclass(frozen=True)
class EmergenceEstimate:
    """The budget from which the score is expected above chance, and a sentence about it."""

    margin: float
    flops: float | None
    draws: Array  # (S,), infinite where a draw never gets there
    message: str


@dataclass(frozen=True)
class DownstreamFit:
    """Every law of one score."""

    data: ScoreData
    power: ScorePowerLaw
    line: Line | None  # of the score against loss; None where a run has no loss
    with_loss: SaturatingCurves | None
    with_compute: SaturatingCurves | None
    forecast_errors: dict[str, float]  # root mean square error on the most expensive runs, by form
    emergence: EmergenceEstimate


def fit_downstream(
    data: ScoreData,
    laws: Array | None,
    *,
    ceiling: float | None = CEILING,
    resamples: int = 1000,
    seed: int = 0,
) -> DownstreamFit:
    """Fit every form to one score.

    Args:
        data: runs with the score.
        laws: theta of the single-epoch law and draws of it, (S + 1, 5); None where there is no such law.
        ceiling: best score possible; None to fit it.
        resamples: draws behind the intervals.
        seed: of the draws.
    """
    with_loss, line = None, None
    if data.has_losses:
        with_loss = fit_saturating(
            data.on_loss(), ceiling=ceiling, draws=resamples, seed=spawn_seed(seed, "loss")
        )
        line = fit_line(data.loss, data.score, 1 / data.variance)
    with_compute = fit_saturating(
        data.on_compute(), ceiling=ceiling, draws=resamples, seed=spawn_seed(seed, "compute")
    )
    power = fit_power(data, resamples, spawn_seed(seed, "power law"))
    if line is None:
        emergence = _emergence_with_compute(data, power, with_compute)
    else:
        emergence = _emergence_with_loss(data, line, with_loss if laws is not None else with_compute, laws)
    return DownstreamFit(
        data=data,
        power=power,
        line=line,
        with_loss=with_loss,
        with_compute=with_compute,
        forecast_errors=held_out_errors_by_form(data, ceiling),
        emergence=emergence,
    )


def fit_power(data: ScoreData, resamples: int, seed: int) -> ScorePowerLaw:
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
        centred = x - mean_x[:, None]
        gamma = (weights * centred * log_q).sum(axis=1) / (weights * centred**2).sum(axis=1)
        spread = (weights * centred**2).sum(axis=1) / total
    # All records at one compute: no more expensive run beats the cheapest, so the score has not grown.
    gamma = np.where(spread > ONE_BUDGET**2, gamma, 0.0)
    coefficient = float(np.exp(mean_y[0] - gamma[0] * mean_x[0]))
    return ScorePowerLaw(coefficient, float(gamma[0]), gamma[1:], record[0])


def held_out_errors_by_form(data: ScoreData, ceiling: float | None) -> dict[str, float]:
    """Root mean square error of each form on the most expensive third of the runs, when fitted to the others."""
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
        line = fit_line(early.loss, early.score, 1 / early.variance)
        forecasts["linear_loss"] = line.slope * data.loss[future] + line.intercept
        curves.append(("saturating_loss", early.on_loss(), data.on_loss(future)))
    for name, seen, unseen in curves:
        curve = fit_saturating(seen, ceiling=ceiling)
        if curve is not None:
            forecasts[name] = curve.score(unseen.x)
    errors = {name: float(np.sqrt(np.mean((f - data.score[future]) ** 2))) for name, f in forecasts.items()}
    # Scores that are all zero have no power law.
    return {name: error for name, error in errors.items() if np.isfinite(error)}


def emergence_margin(data: ScoreData) -> float:
    """Distance above chance at which the 95 % interval of a score of as many items is above chance.

    Chance is shrunk towards 1/2 as in `binomial_variance`, so that a chance of 0 has a margin too.
    """
    known = np.isfinite(data.items)
    if known.any():
        items = np.array([float(np.nanmedian(data.items))])
        spread = float(binomial_variance(np.array([data.chance]), items)[0])
    else:
        spread = float(np.median(data.variance))
    return NORMAL_975 * float(np.sqrt(spread))


def _emergence_with_compute(
    data: ScoreData, power: ScorePowerLaw, curve: SaturatingCurves | None
) -> EmergenceEstimate:
    """Where runs without losses emerge: along their own path."""
    rises = bool(np.nanquantile(power.draws, 0.025) > 0)
    refused = _cannot_say(data, curve, None if rises else "with compute")
    if refused is not None or curve is None:
        return EmergenceEstimate(emergence_margin(data), None, np.array([]), refused or "")
    return _emergence_along_runs(data, curve)


def _emergence_with_loss(
    data: ScoreData, line: Line, curve: SaturatingCurves | None, laws: Array | None
) -> EmergenceEstimate:
    """Where runs with losses emerge: at the loss that the score takes, by the best split of each budget."""
    falls = bool(line.slope + NORMAL_975 * line.slope_se < 0)
    refused = _cannot_say(data, curve, None if falls else "with falling loss")
    if refused is not None or curve is None:
        return EmergenceEstimate(emergence_margin(data), None, np.array([]), refused or "")
    if laws is None:
        return _emergence_along_runs(data, curve)
    rows = min(len(laws), len(curve.curves))
    flops = flops_for(laws[:rows], -curve.at(data.chance + emergence_margin(data))[:rows])
    return _emergence_at(data, flops, "with the best split of each budget")


def _cannot_say(data: ScoreData, curve: SaturatingCurves | None, no_rise: str | None) -> str | None:
    """Why the law gives no emergence of a score; None where it does."""
    if data.chance + emergence_margin(data) >= 1:
        return "the law cannot say: too few items to tell any score from chance"
    if curve is None:
        return "the law cannot say: these scores do not rise above chance"
    if no_rise is not None:
        return f"the law cannot say: no rise of the score {no_rise} is certain in these runs"
    return None


def _emergence_along_runs(data: ScoreData, curve: SaturatingCurves) -> EmergenceEstimate:
    with np.errstate(over="ignore"):
        flops = np.exp(curve.at(data.chance + emergence_margin(data)))
    return _emergence_at(data, flops, "along the path of these runs")


def _emergence_at(data: ScoreData, flops: Array, path: str) -> EmergenceEstimate:
    """The emergence at a budget and draws of it, flops (S + 1,)."""
    margin = emergence_margin(data)
    if not np.isfinite(flops[0]):
        message = "the law expects it never: the loss that it takes is below the irreducible loss E"
        return EmergenceEstimate(margin, None, flops[1:], message)
    reached = "within" if flops[0] <= data.flops.max() else f"{flops[0] / data.flops.max():.3g} times beyond"
    if flops[0] < data.flops.min():
        reached = "below"
    message = f"expected above chance by {margin:.3f} from {flops[0]:.3g} FLOPs on, {path}: {reached} the runs' compute"
    return EmergenceEstimate(margin, float(flops[0]), flops[1:], message)
