"""Laws of a score: with compute on its envelope, with loss, between chance and a ceiling, and where it emerges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from speechscale.laws.allocation import flops_for
from speechscale.laws.bootstrap import NORMAL_975
from speechscale.laws.minimise import Array
from speechscale.laws.score_curves import ScoreCurves
from speechscale.laws.score_fit import ScoreProblem, fit_scores
from speechscale.laws.score_pool import ScorePool, ScoreRequest, fit_score_pools, pooled_curves
from speechscale.laws.scores import CEILING, Line, Predictor, ScorePoints, binomial_variance, fit_line
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
        """Binomial variance of each score (n,)."""
        return self.points("compute").variance

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """What the score can be fitted against."""
        return ("loss", "compute") if self.has_losses else ("compute",)

    def points(self, against: Predictor) -> ScorePoints:
        """The scores against -loss or ln C."""
        x = -self.loss if against == "loss" else np.log(self.flops)
        return ScorePoints(against, x, self.flops, self.score, self.items, self.chance)

    def take(self, rows: slice) -> ScoreData:
        """Some of the runs."""
        return ScoreData(self.flops[rows], self.loss[rows], self.score[rows], self.items[rows], self.chance)


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
    by_loss: ScorePool | None  # None where a run has no loss, or no rising curve fits better than chance
    by_compute: ScorePool | None
    forecast_errors: dict[str, float]  # root mean square error on the most expensive runs, by form
    emergence: EmergenceEstimate


@dataclass(frozen=True)
class ScoreFitOptions:
    """The best score possible, below which the ceiling is fitted, and the draws behind the intervals."""

    ceiling: float = CEILING
    draws: int = 1000


def fit_downstream(
    scores: Mapping[str, ScoreData],
    laws: Array | None,
    options: ScoreFitOptions = ScoreFitOptions(),
    *,
    seed: int = 0,
) -> dict[str, DownstreamFit]:
    """Fit every form to every score; the curves of all scores descend as one batch.

    Args:
        scores: runs with each score.
        laws: theta of the single-epoch law and draws of it, (S + 1, 5); None where there is no such law.
        options: of the fit.
        seed: of the draws.
    """
    seeds = {name: spawn_seed(seed, "score", name) for name in scores}
    keys = [(name, against) for name, data in scores.items() for against in data.predictors]
    requests = [
        ScoreRequest(
            scores[name].points(against), options.ceiling, options.draws, spawn_seed(seeds[name], against)
        )
        for name, against in keys
    ]
    pools = dict(zip(keys, fit_score_pools(requests), strict=True))
    errors = held_out_errors_by_form(scores, options.ceiling)
    return {
        name: _downstream_fit(
            data,
            {against: pools[name, against] for against in data.predictors},
            errors[name],
            laws,
            (options.draws, spawn_seed(seeds[name], "power law")),
        )
        for name, data in scores.items()
    }


def _downstream_fit(
    data: ScoreData,
    pools: Mapping[Predictor, ScorePool | None],
    errors: dict[str, float],
    laws: Array | None,
    power_draws: tuple[int, int],
) -> DownstreamFit:
    line = fit_line(data.loss, data.score, 1 / data.variance) if data.has_losses else None
    power = fit_power(data, *power_draws)
    by_loss, by_compute = pools.get("loss"), pools["compute"]
    if line is None:
        emergence = _emergence_with_compute(data, power, _curves(by_compute))
    else:
        emergence = _emergence_with_loss(
            data, line, _curves(by_loss if laws is not None else by_compute), laws
        )
    return DownstreamFit(data, power, line, by_loss, by_compute, errors, emergence)


def _curves(pool: ScorePool | None) -> ScoreCurves | None:
    return None if pool is None else pool.curves


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


def held_out_errors_by_form(scores: Mapping[str, ScoreData], ceiling: float) -> dict[str, dict[str, float]]:
    """Root mean square error of each form on the most expensive third of the runs, when fitted to the others.

    Args:
        scores: runs with each score.
        ceiling: best score possible.
    """
    cheapest = {name: int(np.ceil(CHEAP_SHARE * len(data.score))) for name, data in scores.items()}
    names = [name for name, data in scores.items() if 4 <= cheapest[name] < len(data.score)]
    keys = [(name, against) for name in names for against in scores[name].predictors]
    rng = np.random.default_rng(0)  # nothing is drawn
    problems = [
        ScoreProblem(scores[name].take(slice(cheapest[name])).points(against), ceiling, 0, rng)
        for name, against in keys
    ]
    fits = dict(zip(keys, fit_scores(problems), strict=True))
    errors: dict[str, dict[str, float]] = {name: {} for name in scores}
    for name in names:
        data = scores[name]
        early, late = data.take(slice(cheapest[name])), data.take(slice(cheapest[name], None))
        forecasts = _simple_forecasts(early, late)
        for against in data.predictors:
            curves = pooled_curves(data.chance, fits[name, against])
            forecasts[f"curve_{against}"] = curves.centre(late.points(against).x)
        own = {form: float(np.sqrt(np.mean((f - late.score) ** 2))) for form, f in forecasts.items()}
        # Scores that are all zero have no power law.
        errors[name] = {form: error for form, error in own.items() if np.isfinite(error)}
    return errors


def _simple_forecasts(early: ScoreData, late: ScoreData) -> dict[str, Array]:
    """Scores (n,) of the late runs by every form but the curves, fitted to the early runs."""
    power = fit_power(early, 0, 0)
    forecasts = {
        "chance": np.full(len(late.score), late.chance),
        "mean": np.full(len(late.score), np.average(early.score, weights=1 / early.variance)),
        "power_compute": power.coefficient * late.flops**power.gamma,
    }
    if early.has_losses:
        line = fit_line(early.loss, early.score, 1 / early.variance)
        forecasts["linear_loss"] = line.slope * late.loss + line.intercept
    return forecasts


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
    data: ScoreData, power: ScorePowerLaw, curve: ScoreCurves | None
) -> EmergenceEstimate:
    """Where runs without losses emerge: along their own path."""
    rises = bool(np.nanquantile(power.draws, 0.025) > 0)
    refused = _cannot_say(data, curve, None if rises else "with compute")
    if refused is not None or curve is None:
        return EmergenceEstimate(emergence_margin(data), None, np.array([]), refused or "")
    return _emergence_along_runs(data, curve)


def _emergence_with_loss(
    data: ScoreData, line: Line, curve: ScoreCurves | None, laws: Array | None
) -> EmergenceEstimate:
    """Where runs with losses emerge: at the loss that the score takes, by the best split of each budget."""
    falls = bool(line.slope + NORMAL_975 * line.slope_se < 0)
    refused = _cannot_say(data, curve, None if falls else "with falling loss")
    if refused is not None or curve is None:
        return EmergenceEstimate(emergence_margin(data), None, np.array([]), refused or "")
    if laws is None:
        return _emergence_along_runs(data, curve)
    needed = -_reached(curve, data.chance + emergence_margin(data))
    rows = min(len(laws), len(needed))
    flops = flops_for(laws[:rows], needed[:rows])
    return _emergence_at(data, flops, "with the best split of each budget")


def _reached(curve: ScoreCurves, score: float) -> Array:
    """The x at which the centre of the curves reaches a score, and draws of it (S + 1,)."""
    return np.concatenate([[curve.centre_at(score)], curve.drawn_at(score)])


def _cannot_say(data: ScoreData, curve: ScoreCurves | None, no_rise: str | None) -> str | None:
    """Why the law gives no emergence of a score; None where it does."""
    if data.chance + emergence_margin(data) >= 1:
        return "the law cannot say: too few items to tell any score from chance"
    if curve is None:
        return "the law cannot say: these scores do not rise above chance"
    if no_rise is not None:
        return f"the law cannot say: no rise of the score {no_rise} is certain in these runs"
    return None


def _emergence_along_runs(data: ScoreData, curve: ScoreCurves) -> EmergenceEstimate:
    with np.errstate(over="ignore"):
        flops = np.exp(_reached(curve, data.chance + emergence_margin(data)))
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
