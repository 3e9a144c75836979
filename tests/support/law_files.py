"""Law files for tests: a small one without any fit, and changed copies of fitted ones."""

from __future__ import annotations

from typing import Any

from speechscale.records.law import FitOptions, LawFile, SeriesLaw
from speechscale.records.law_sections import IsoflopBudget, IsoflopLaw, Missing, Rows, Split, SplitExponents


def small_law() -> LawFile:
    """One series without a single-epoch law, with the minimum of one budget."""
    series = SeriesLaw(
        rows=Rows(used=3, dropped=[]),
        checks=[],
        single_epoch=Missing(missing="3 distinct runs cannot determine 5 parameters"),
        isoflop=IsoflopLaw(
            params=Split[float](a=0.25, b=0.75, G=3.0),
            budgets=[IsoflopBudget(flops=1e18, sizes=2, refused="too few sizes")],
            interval95=SplitExponents(a=(-1e-09, 0.5), b=None),
        ),
    )
    return LawFile(options=FitOptions(seed=4), series={"s": series}, efficiency={})


def with_sections(law: LawFile, series: str, **sections: Any) -> LawFile:
    """The law with other sections of one series."""
    changed = law.series[series].model_copy(update=sections)
    return law.model_copy(update={"series": {**law.series, series: changed}})


def with_fields(law: LawFile, series: str, section: str, **fields: Any) -> LawFile:
    """The law with other fields in one section of one series."""
    changed = getattr(law.series[series], section).model_copy(update=fields)
    return with_sections(law, series, **{section: changed})
