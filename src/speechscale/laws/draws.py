"""A law with its draws, as read from a law file or a publication, for planning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws.family import FAMILY_NAMES
from speechscale.laws.forms import log_loss, to_theta
from speechscale.laws.minimise import Array
from speechscale.laws.pool import widened
from speechscale.laws.published_laws import PUBLISHED_LAWS, PublishedScore
from speechscale.laws.repeated import RATES, log_loss_repeated
from speechscale.laws.repeated_pool import JOINT, TWO_STAGES, PartDraws, family_rows, two_stage_rows
from speechscale.laws.score_curves import ScoreCurves
from speechscale.laws.single_epoch import MIN_EXPONENT
from speechscale.records.forecast_sections import Backtest, ForecastLaw
from speechscale.records.law import LawFile, SeriesLaw
from speechscale.records.law_sections import (
    Check,
    Missing,
    SingleEpochLaw,
)
from speechscale.records.repeated_sections import RepeatedBacktest, RepeatedLaw
from speechscale.records.score_law_sections import ScoreCurveLaw, ScoreLaw

BEYOND_ROUNDING = 1e-9
NOISE_SEED = 0  # of the noise of new runs, so that the same plan gives the same interval


@dataclass(frozen=True)
class LawDraws:
    """One law or a pool of laws, with draws from the noise of their runs.

    Attributes:
        name: of the series or the publication.
        theta: (R, 9) = (ln A, ln B, ln E, alpha, beta, ln gamma, c, ln R_D*, ln R_N*), the last two NaN where a law
            does not say what a repetition is worth. The first `points` rows are the fitted laws, the others their
            draws.
        points: number of fitted laws; the median over them is the centre of every estimate.
        scores: pooled curves in -loss by score.
        smallest: params, tokens and flops of the fitted runs, where known.
        largest: the same.
        noise: standard deviation of ln L of one run around each row, (R,); None where unknown.
        scale: factor by which intervals are widened, from a backtest.
        backtested: whether a backtest gave the scale.
        tokens_per_second: of audio.
        published_scores: power laws of scores in compute, of a publication.
        checks: of the fit.
        no_best_split: why the fitted runs name no best split of a budget; empty where they do.
        parts: number of fitted laws in each part of a pool of pools, where the centre is the mean over parts of the
            median in each; one part where empty.
        repeated: the law of repeated data, where it has rows of its own.
    """

    name: str
    theta: Array
    points: int
    scores: dict[str, ScoreCurves]
    smallest: dict[str, float]
    largest: dict[str, float]
    noise: Array | None
    scale: float = 1.0
    backtested: bool = False
    tokens_per_second: float | None = None
    published_scores: dict[str, PublishedScore] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    no_best_split: str = ""
    parts: tuple[int, ...] = ()
    repeated: LawDraws | None = None

    @classmethod
    def from_file(cls, law: LawFile, series: str | None) -> LawDraws:
        """The pooled law of one series of a law file, or its additive law where none was pooled.

        Raises:
            UserError: no such series, several without a choice, or no law that converged.
        """
        name = _chosen_series(law, series)
        return cls.from_series(law.series[name], name)

    @classmethod
    def from_series(cls, content: SeriesLaw, name: str) -> LawDraws:
        """The pooled law of one series, or its additive law where none was pooled.

        Raises:
            UserError: no law that converged.
        """
        additive = _fitted_law(content, name)
        pooled = content.forecast
        if isinstance(pooled, ForecastLaw):
            rows = _pooled_rows(pooled, name)
            scale, backtested = pooled.scale, isinstance(pooled.backtest, Backtest)
        else:
            rows, scale, backtested = _additive_rows(additive, name), 1.0, False
        spans = additive.range
        whole = cls(
            name,
            np.column_stack([rows.theta, np.full((len(rows.theta), len(RATES)), np.nan)]),
            rows.points,
            _score_curves(content),
            {"params": spans.params[0], "tokens": spans.tokens[0], "flops": spans.flops[0]},
            {"params": spans.params[1], "tokens": spans.tokens[1], "flops": spans.flops[1]},
            rows.noise,
            scale,
            backtested,
            content.tokens_per_second,
            checks=content.checks,
            no_best_split=_no_best_split(additive),
        )
        repeated = content.repeated
        if isinstance(repeated, RepeatedLaw):
            return replace(whole, repeated=_with_rates(whole, repeated))
        return whole

    @classmethod
    def from_publication(cls, name: str) -> LawDraws:
        """One of the published laws, without draws.

        Raises:
            UserError: not a published series.
        """
        if name not in PUBLISHED_LAWS:
            raise UserError(
                f"no published law {name!r}{nearest(name, set(PUBLISHED_LAWS))}; there are "
                f"{', '.join(PUBLISHED_LAWS)}."
            )
        law = PUBLISHED_LAWS[name]
        rates = [np.log(law.rates[rate]) if law.rates else np.nan for rate in RATES]
        ranges = {"params": law.params_range, "tokens": law.tokens_range}
        smallest, largest = (
            {quantity: span[end] for quantity, span in ranges.items() if span} for end in (0, 1)
        )
        theta = np.concatenate([to_theta(law.params), [0.0, 0.0], rates])[None]
        return cls(
            f"{name} ({law.source})",
            theta,
            1,
            {},
            smallest,
            largest,
            None,
            tokens_per_second=law.tokens_per_second,
            published_scores=law.scores,
        )

    def require_best_split(self) -> None:
        """Refuse a law whose runs do not say how a budget is best split.

        Raises:
            UserError: the sentence says why, and what to do.
        """
        if self.no_best_split:
            raise UserError(
                f"the law of {self.name} names no best split of a budget: {self.no_best_split}. Fit runs of "
                "more sizes and token counts, plan for a given size with --params, or plan with --published."
            )

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.theta) - self.points

    @property
    def has_repeated_data(self) -> bool:
        """Whether the law says what a repetition is worth."""
        return self.repeated is not None or bool(np.isfinite(self.theta[: self.points, 7:]).all())

    def with_repeated_data(self) -> LawDraws:
        """The law that answers for repeated data: rows of its own, or the same."""
        return self.repeated or self

    def log_loss(self, log_n: Array, log_d: Array, log_unique: Array | None = None) -> Array:
        """Ln L (R, n) of n runs, by every row of the law.

        Args:
            log_n: ln N, (n,) or (R, n).
            log_d: ln D, the same.
            log_unique: ln of the unique tokens, the same; every token is seen once when None.
        """
        if log_unique is None:
            return log_loss(self.theta[:, :7], log_n, log_d)
        return log_loss_repeated(self.theta, log_n, log_d, log_unique)

    def beyond(self, planned: Mapping[str, float]) -> dict[str, float]:
        """How far numbers are outside the fitted runs, as factors above 1; nothing for those inside or unknown."""
        factors = {
            name: max(value / self.largest[name], self.smallest[name] / value)
            for name, value in planned.items()
            if name in self.largest
        }
        return {name: float(factor) for name, factor in factors.items() if factor > 1 + BEYOND_ROUNDING}

    def centre(self, rows: Array) -> Array:
        """The estimate (...) of a quantity that every row gives, (R, ...): the median over the fitted laws.

        Of several parts, the mean of their medians.
        """
        parts = (
            np.split(rows[: self.points], np.cumsum(self.parts)[:-1]) if self.parts else [rows[: self.points]]
        )
        return np.asarray(np.mean([np.median(part, axis=0) for part in parts], axis=0))

    def widened(self, log_rows: Array) -> Array:
        """Draws (S, ...) of the logarithm of a quantity, moved away from its centre by `scale`."""
        return widened(log_rows[self.points :], self.centre(log_rows), self.scale)

    def with_noise(self, log_loss_rows: Array) -> Array:
        """Ln L (R, ...) of a new run by every row: the law with the noise of one run, the same at every call."""
        if self.noise is None:
            return log_loss_rows
        noise = np.random.default_rng(NOISE_SEED).standard_normal(log_loss_rows.shape)
        noise[: self.points] = 0.0
        return np.asarray(log_loss_rows + noise * self.noise.reshape(-1, *[1] * (log_loss_rows.ndim - 1)))


@dataclass(frozen=True)
class _LawRows:
    """Rows of a law: theta (R, 7), the number of fitted laws among them, and the noise of each (R,)."""

    theta: Array
    points: int
    noise: Array


def _chosen_series(law: LawFile, series: str | None) -> str:
    names = list(law.series)
    if series is None and len(names) > 1:
        raise UserError(f"the law file holds the series {', '.join(names)}; choose one with --series.")
    name = series or names[0]
    if name not in names:
        raise UserError(
            f"the law file has no series {name!r}{nearest(name, names)}; it holds {', '.join(names)}."
        )
    return name


def _fitted_law(content: SeriesLaw, series: str) -> SingleEpochLaw:
    law = content.single_epoch
    if isinstance(law, Missing):
        raise UserError(f"series {series!r} has no single-epoch law to plan with: {law.missing}")
    return law


def _no_best_split(law: SingleEpochLaw) -> str:
    """Why no split of a budget is best by the runs of a law: they have one N or D, or loss does not fall with it."""
    for name, (low, high) in (("N", law.range.params), ("D", law.range.tokens)):
        if low == high:
            return f"all of its runs have the same {name}, {low:.4g}"
    for name, exponent in (("N", law.params.alpha), ("D", law.params.beta)):
        if exponent <= MIN_EXPONENT:
            return f"in its runs loss hardly falls with {name} (its exponent is {exponent:.3g})"
    return ""


def _pooled_rows(pooled: ForecastLaw, series: str) -> _LawRows:
    members = [member for member in pooled.members.values() if member.weight > 0]
    if not members:
        raise UserError(
            f"no law of the family converged for series {series!r}, so nothing can be planned with them. {_REMEDY}"
        )
    points = np.stack([_family_theta(dict(member.params))[0] for member in members])
    draws = [_family_theta(dict(member.draws)) for member in members]
    noise = [np.array([member.noise for member in members])]
    noise += [np.full(len(theta), member.noise) for theta, member in zip(draws, members, strict=True)]
    return _LawRows(np.concatenate([points, *draws]), len(members), np.concatenate(noise))


def _additive_rows(law: SingleEpochLaw, series: str) -> _LawRows:
    if not law.converged:
        found = law.convergence
        raise UserError(
            f"the single-epoch law of series {series!r} did not converge, so nothing can be planned with it: "
            f"{found.agreeing} of {found.starts} starts reached the least objective, with a scaled gradient of "
            f"{found.gradient:.1e} there. {_REMEDY}"
        )
    theta = np.concatenate([_additive_theta(dict(law.params)), _additive_theta(dict(law.draws))])
    return _LawRows(theta, 1, np.full(len(theta), law.noise))


_REMEDY = (
    "Look for outliers among its runs, add runs of other sizes and budgets, or fix or tie parameters (--fix, --tied), "
    "and fit again with `speechscale fit`."
)


def _family_theta(values: Mapping[str, float | Sequence[float] | Array]) -> Array:
    """Theta (S, 7) of parameters by name; an E of zero becomes tiny."""
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(values[name], float)) for name in FAMILY_NAMES))
    logarithms = ("E", "gamma")
    return np.stack(
        [
            np.log(np.maximum(column, 1e-300)) if name in logarithms else column
            for name, column in zip(FAMILY_NAMES, columns, strict=True)
        ],
        axis=1,
    )


def _additive_theta(values: Mapping[str, float | Sequence[float]]) -> Array:
    """Theta (S, 7) of the additive law's parameters by name."""
    logs = {f"log_{name}": np.log(np.maximum(np.asarray(values[name], float), 1e-300)) for name in ("A", "B")}
    return _family_theta({**values, **logs, "gamma": 1.0, "c": 0.0})


def _with_rates(law: LawDraws, repeated: RepeatedLaw) -> LawDraws:
    """The law of repeated data: the parts of its pool, with as many draws of each."""
    found = []
    if repeated.pool.weights[TWO_STAGES] > 0:
        rates = np.log(np.column_stack([repeated.draws.R_D, repeated.draws.R_N]))
        own = np.log([repeated.params.R_D, repeated.params.R_N])
        laws = law.theta[:, :7]
        found.append(two_stage_rows(laws[: law.points], laws[law.points :], own, rates))
    if repeated.pool.weights[JOINT] > 0:
        joint, drawn = repeated.joint, repeated.joint.draws
        own = np.log([[joint.params.R_D, joint.params.R_N]])
        laws = _family_theta({**dict(drawn), "gamma": 1.0, "c": 0.0})
        rates = np.log(np.column_stack([drawn.R_D, drawn.R_N]))
        additive = _additive_theta(dict(joint.single_epoch))
        found.append(PartDraws(family_rows(additive, own), family_rows(laws, rates)))
    points = [part.points for part in found]
    count = min(len(part.draws) for part in found)
    theta = np.concatenate([*points, *(_evenly(part.draws, count) for part in found)])
    return replace(
        law,
        theta=theta,
        points=sum(map(len, points)),
        parts=tuple(map(len, points)),
        largest={**law.largest, "epochs": repeated.pool.epochs},
        smallest={**law.smallest, "epochs": 1.0},
        noise=np.full(len(theta), repeated.pool.noise),
        scale=repeated.pool.scale,
        backtested=isinstance(repeated.pool.backtest, RepeatedBacktest),
    )


def _evenly(rows: Array, count: int) -> Array:
    """Some of the rows, evenly spaced: those of the members of a pool follow one another."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, count).round().astype(int)])


def _score_curves(content: SeriesLaw) -> dict[str, ScoreCurves]:
    """The pooled curves in loss of every score that has them."""
    laws = content.downstream if isinstance(content.downstream, dict) else {}
    curves = {score: law.by_loss for score, law in laws.items() if isinstance(law, ScoreLaw)}
    return {
        score: ScoreCurves.from_section(curve)
        for score, curve in curves.items()
        if isinstance(curve, ScoreCurveLaw)
    }
