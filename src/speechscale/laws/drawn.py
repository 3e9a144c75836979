"""A law with its draws, as read from a law file or a publication: what planning computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws.forms import NAMES, log_loss, to_theta
from speechscale.laws.minimise import Array
from speechscale.laws.published_laws import PUBLISHED
from speechscale.laws.repeated import RATES, log_effective
from speechscale.laws.scores import Saturating


@dataclass(frozen=True)
class LawDraws:
    """Row 0 is the law, the others are draws of it from the noise of its runs.

    theta (S, 7), the last two ln R_D* and ln R_N* (not numbers where repeated data was not fitted).
    """

    name: str
    theta: Array
    scores: dict[str, Saturating]  # in -loss
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


def from_file(law: Mapping[str, Any], series: str | None) -> LawDraws:
    """The law of one series of a law file.

    Raises:
        UserError: no such series, several without a choice, or no single-epoch law in it.
    """
    names = list(law["series"])
    if series is None and len(names) > 1:
        raise UserError(f"the law file holds the series {', '.join(names)}; choose one with --series.")
    name = series or names[0]
    if name not in names:
        raise UserError(
            f"the law file has no series {name!r}{nearest(name, names)}; it holds {', '.join(names)}."
        )
    content = law["series"][name]
    first = content["single_epoch"]
    if "missing" in first:
        raise UserError(f"series {name!r} has no single-epoch law to plan with: {first['missing']}")
    fitted = to_theta(first["params"])
    drawn = np.stack([_theta_column(k, first["draws"][column]) for k, column in enumerate(NAMES)], axis=1)
    theta = np.full((len(drawn) + 1, 7), np.nan)
    theta[0, :5], theta[1:, :5] = fitted, drawn
    repeated = content.get("repeated", {"missing": ""})
    if "missing" not in repeated:
        for k, rate in enumerate(RATES):
            theta[0, 5 + k] = np.log(repeated["params"][rate])
            theta[1:, 5 + k] = np.log(repeated["draws"][rate])
    scores = {
        score: _curve(part["saturating"])
        for score, part in content.get("downstream", {}).items()
        if isinstance(part, dict) and "missing" not in part.get("saturating", {"missing": ""})
    }
    smallest, largest = (
        {key: first["range"][key][end] for key in ("params", "tokens", "flops")} for end in (0, 1)
    )
    return LawDraws(
        name,
        theta,
        scores,
        smallest,
        largest,
        first["noise"],
        content.get("tokens_per_second"),
    )


def from_publication(name: str) -> LawDraws:
    """One of the published laws, without draws.

    Raises:
        UserError: not a published series.
    """
    if name not in PUBLISHED:
        raise UserError(
            f"no published law {name!r}{nearest(name, set(PUBLISHED))}; there are {', '.join(PUBLISHED)}."
        )
    law = PUBLISHED[name]
    rates = [np.log(law.rates[rate]) if law.rates else np.nan for rate in RATES]
    ranges = {"params": law.params_range, "tokens": law.tokens_range}
    smallest, largest = ({name: span[end] for name, span in ranges.items() if span} for end in (0, 1))
    theta = np.append(to_theta(law.params), rates)[None]
    return LawDraws(f"{name} ({law.source})", theta, {}, smallest, largest, None, law.tokens_per_second)


def _theta_column(k: int, values: list[float]) -> Array:
    column = np.array(values, dtype=float)
    return np.log(np.maximum(column, 1e-300)) if k < 3 else column


def _curve(part: Mapping[str, Any]) -> Saturating:
    names = ("midpoint_loss", "steepness", "ceiling")
    fitted = np.array([part[name] for name in names])
    draws = {"ceiling": [part["ceiling"]] * len(part["draws"]["steepness"]), **part["draws"]}
    drawn = np.stack([np.array(draws[name]) for name in names], axis=1)
    curves = np.concatenate([fitted[None], drawn])
    curves[:, 0] *= -1  # the curve rises with -loss
    return Saturating(part["floor"], curves, part["dispersion"])
