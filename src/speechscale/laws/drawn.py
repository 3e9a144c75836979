"""A law with its draws, as read from a law file or a publication: what planning computes with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws.forms import NAMES, log_loss, to_theta
from speechscale.laws.minimise import Array
from speechscale.laws.published_laws import PUBLISHED_LAWS
from speechscale.laws.repeated import RATES, log_effective
from speechscale.laws.scores import SaturatingCurves
from speechscale.records.law import LawFile
from speechscale.records.law_sections import Missing, RepeatedLaw, SaturatingLossCurve, ScoreLaw


@dataclass(frozen=True)
class LawDraws:
    """Row 0 is the law, the others are draws of it from the noise of its runs.

    theta (S, 7), the last two ln R_D* and ln R_N* (not numbers where repeated data was not fitted).
    """

    name: str
    theta: Array
    scores: dict[str, SaturatingCurves]  # in -loss
    smallest: dict[str, float]  # params, tokens and flops of the fitted runs, where known
    largest: dict[str, float]
    noise: float | None  # standard deviation of ln L of one run
    tokens_per_second: float | None

    @property
    def draws(self) -> int:
        return len(self.theta) - 1

    @property
    def repeats(self) -> bool:
        return bool(np.isfinite(self.theta[0, 5:]).all())

    def log_loss(self, log_n: Array, log_d: Array, log_unique: Array | None = None) -> Array:
        """ln L (S, n) of n runs (or (S, n)); repetitions count where the unique tokens are given."""
        if log_unique is None:
            return log_loss(self.theta[:, :5], log_n, log_d)
        return log_loss(self.theta[:, :5], *log_effective(self.theta, log_n, log_d, log_unique))


def from_file(law: LawFile, series: str | None) -> LawDraws:
    """The law of one series of a law file.

    Raises:
        UserError: no such series, several without a choice, or no single-epoch law in it.
    """
    names = list(law.series)
    if series is None and len(names) > 1:
        raise UserError(f"the law file holds the series {', '.join(names)}; choose one with --series.")
    name = series or names[0]
    if name not in names:
        raise UserError(
            f"the law file has no series {name!r}{nearest(name, names)}; it holds {', '.join(names)}."
        )
    content = law.series[name]
    first = content.single_epoch
    if isinstance(first, Missing):
        raise UserError(f"series {name!r} has no single-epoch law to plan with: {first.missing}")
    drawn = np.stack(
        [_theta_column(k, getattr(first.draws, column)) for k, column in enumerate(NAMES)], axis=1
    )
    theta = np.full((len(drawn) + 1, 7), np.nan)
    theta[0, :5], theta[1:, :5] = to_theta(dict(first.params)), drawn
    if isinstance(content.repeated, RepeatedLaw):
        for k, rate in enumerate(RATES):
            theta[0, 5 + k] = np.log(getattr(content.repeated.params, rate))
            theta[1:, 5 + k] = np.log(getattr(content.repeated.draws, rate))
    scores = content.downstream if isinstance(content.downstream, dict) else {}
    spans = {"params": first.range.params, "tokens": first.range.tokens, "flops": first.range.flops}
    smallest, largest = ({key: span[end] for key, span in spans.items()} for end in (0, 1))
    return LawDraws(
        name,
        theta,
        {
            score: _curve(part.saturating)
            for score, part in scores.items()
            if isinstance(part, ScoreLaw) and isinstance(part.saturating, SaturatingLossCurve)
        },
        smallest,
        largest,
        first.noise,
        content.tokens_per_second,
    )


def from_publication(name: str) -> LawDraws:
    """One of the published laws, without draws.

    Raises:
        UserError: not a published series.
    """
    if name not in PUBLISHED_LAWS:
        raise UserError(
            f"no published law {name!r}{nearest(name, set(PUBLISHED_LAWS))}; there are {', '.join(PUBLISHED_LAWS)}."
        )
    law = PUBLISHED_LAWS[name]
    rates = [np.log(law.rates[rate]) if law.rates else np.nan for rate in RATES]
    ranges = {"params": law.params_range, "tokens": law.tokens_range}
    smallest, largest = ({name: span[end] for name, span in ranges.items() if span} for end in (0, 1))
    theta = np.append(to_theta(law.params), rates)[None]
    return LawDraws(f"{name} ({law.source})", theta, {}, smallest, largest, None, law.tokens_per_second)


def _theta_column(k: int, values: list[float]) -> Array:
    column = np.array(values, dtype=float)
    return np.log(np.maximum(column, 1e-300)) if k < 3 else column


def _curve(part: SaturatingLossCurve) -> SaturatingCurves:
    """The curve and its draws; it rises with -loss."""
    draws = part.draws
    ceilings = draws.ceiling or [part.ceiling] * len(draws.steepness)
    drawn = np.column_stack([-np.array(draws.midpoint_loss), draws.steepness, ceilings])
    fitted = [-part.midpoint_loss, part.steepness, part.ceiling]
    return SaturatingCurves(part.floor, np.vstack([fitted, drawn]), part.dispersion)
