"""Checks of the options of a fit, before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from speechscale.errors import UserError, nearest
from speechscale.laws.bootstrap import RESAMPLINGS, require_draw_count
from speechscale.laws.envelope import DEFINITIONS
from speechscale.laws.ladder import ParameterConstraint
from speechscale.laws.single_epoch import require_delta
from speechscale.records.law import FitOptions, ForecastLawName, LawName

LAWS: tuple[LawName, ...] = get_args(LawName)
FORECAST_LAWS: tuple[ForecastLawName, ...] = get_args(ForecastLawName)


def fit_options(**options: Any) -> FitOptions:
    """The options of a fit, checked.

    Args:
        options: fields of `FitOptions` by name; `laws=None` means all of them.

    Raises:
        UserError: a value that no fit can use; the sentence says which and what is wanted.
    """
    if options.get("laws") is None:
        options["laws"] = LAWS
    for name in options["laws"]:
        if name not in LAWS:
            raise UserError(f"law {name!r} is unknown{nearest(name, LAWS)}; there are {', '.join(LAWS)}.")
    for name, known in (
        ("resampling", RESAMPLINGS),
        ("envelope", DEFINITIONS),
        ("law", FORECAST_LAWS),
    ):
        if name in options and options[name] not in known:
            raise UserError(f"{name} {options[name]!r} is unknown; there are {', '.join(known)}.")
    # Every field is set, so that the law file holds the defaults too.
    chosen = FitOptions(**{**FitOptions().model_dump(), **options})
    require_draw_count(chosen.bootstrap)
    require_delta(chosen.delta)
    ParameterConstraint.of(chosen.tied, chosen.fixed)
    if chosen.seed < 0:
        raise UserError(f"seed is {chosen.seed}; a whole number from zero on is wanted.")
    if chosen.chance is not None and not 0 <= chosen.chance < 1:
        raise UserError(f"chance is {chosen.chance:g}; a fraction in [0, 1) is wanted.")
    chance = chosen.chance or 0.0
    if chosen.ceiling is not None and not chance < chosen.ceiling <= 1:
        raise UserError(
            f"ceiling is {chosen.ceiling:g}; a fraction above chance ({chance:g}), 1 at most, is wanted."
        )
    return chosen


def chosen_series(given: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The series to fit: those given, or all known.

    Raises:
        UserError: an unknown series.
    """
    if given is None:
        return known
    for name in given:
        if name not in known:
            raise UserError(
                f"series {name!r} is unknown{nearest(name, known)}; there are {', '.join(known)}."
            )
    return tuple(given)
