"""A law with its draws, as read from a law file or a publication, for planning."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws.forms import NAMES, TERMS, log_loss, to_theta
from speechscale.laws.minimise import Array
from speechscale.laws.published_laws import PUBLISHED_LAWS
from speechscale.laws.repeated import RATES, log_effective
from speechscale.laws.scores import SaturatingCurves
from speechscale.records.law import LawFile
from speechscale.records.law_sections import (
    Check,
    LossParams,
    Missing,
    RepeatedLaw,
    SaturatingLossCurve,
    ScoreLaw,
    SeriesLaw,
    SingleEpochLaw,
)


@dataclass(frozen=True)
class LawDraws:
    """A law in row 0 and draws of it from the noise of its runs below.

    theta (S, 7), the last two ln R_D* and ln R_N* (NaN where repeated data was not fitted).
    """

    name: str
    theta: Array
    scores: dict[str, SaturatingCurves]  # in -loss
    smallest: dict[str, float]  # params, tokens and flops of the fitted runs, where known
    largest: dict[str, float]
    noise: float | None  # standard deviation of ln L of one run
    tokens_per_second: float | None
    checks: list[Check] = field(default_factory=list)  # of the fit

    @classmethod
    def from_file(cls, law: LawFile, series: str | None) -> LawDraws:
        """The law of one series of a law file.

        Raises:
            UserError: no such series, several without a choice, or no single-epoch law that converged.
        """
        name = _chosen_series(law, series)
        content = law.series[name]
        fitted = _converged_law(content, name)
        drawn = _theta_columns(fitted.draws)
        theta = np.full((len(drawn) + 1, 7), np.nan)
        theta[0, :5], theta[1:, :5] = to_theta(dict(fitted.params)), drawn
        if isinstance(content.repeated, RepeatedLaw):
            for k, rate in enumerate(RATES):
                theta[0, 5 + k] = np.log(getattr(content.repeated.params, rate))
                theta[1:, 5 + k] = np.log(getattr(content.repeated.draws, rate))
        spans = {name: getattr(fitted.range, name) for name in ("params", "tokens", "flops")}
        return cls(
            name,
            theta,
            _score_curves(content),
            {key: span[0] for key, span in spans.items()},
            {key: span[1] for key, span in spans.items()},
            fitted.noise,
            content.tokens_per_second,
            content.checks,
        )

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
        theta = np.append(to_theta(law.params), rates)[None]
        return cls(f"{name} ({law.source})", theta, {}, smallest, largest, None, law.tokens_per_second)

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.theta) - 1

    @property
    def has_repeated_data(self) -> bool:
        """Whether the law says what a repetition is worth."""
        return bool(np.isfinite(self.theta[0, 5:]).all())

    def log_loss(self, log_n: Array, log_d: Array, log_unique: Array | None = None) -> Array:
        """Ln L (S, n) of n runs, by every row of the law.

        Args:
            log_n: ln N, (n,) or (S, n).
            log_d: ln D, the same.
            log_unique: ln of the unique tokens, the same; every token is seen once when None.
        """
        if log_unique is None:
            return log_loss(self.theta[:, :5], log_n, log_d)
        return log_loss(self.theta[:, :5], *log_effective(self.theta, log_n, log_d, log_unique))


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


def _converged_law(content: SeriesLaw, series: str) -> SingleEpochLaw:
    law = content.single_epoch
    if isinstance(law, Missing):
        raise UserError(f"series {series!r} has no single-epoch law to plan with: {law.missing}")
    if not law.converged:
        found = law.convergence
        raise UserError(
            f"the single-epoch law of series {series!r} did not converge, so nothing can be planned with it: "
            f"{found.agreeing} of {found.starts} starts reached the least objective, with a scaled gradient of "
            f"{found.gradient:.1e} there. Look for outliers among its runs, add runs of other sizes and budgets, or "
            "fix or tie parameters (--fix, --tied), and fit again with `speechscale fit`."
        )
    return law


def _theta_columns(draws: LossParams[list[float]]) -> Array:
    """Theta (S, 5) of draws by name; coefficients that were rounded to zero become tiny."""
    columns = [np.array(getattr(draws, name), dtype=float) for name in NAMES]
    logs = [np.log(np.maximum(column, 1e-300)) for column in columns[:TERMS]]
    return np.stack(logs + columns[TERMS:], axis=1)


def _score_curves(content: SeriesLaw) -> dict[str, SaturatingCurves]:
    """The saturating curves in loss of every score that has one."""
    laws = content.downstream if isinstance(content.downstream, dict) else {}
    curves = {score: law.saturating for score, law in laws.items() if isinstance(law, ScoreLaw)}
    return {
        score: _curves(curve) for score, curve in curves.items() if isinstance(curve, SaturatingLossCurve)
    }


def _curves(curve: SaturatingLossCurve) -> SaturatingCurves:
    """The curve and its draws against -loss, with which it rises."""
    draws = curve.draws
    ceilings = draws.ceiling or [curve.ceiling] * len(draws.steepness)
    drawn = np.column_stack([-np.array(draws.midpoint_loss), draws.steepness, ceilings])
    fitted = [-curve.midpoint_loss, curve.steepness, curve.ceiling]
    return SaturatingCurves(curve.floor, np.vstack([fitted, drawn]), curve.dispersion)
