"""Comparison of series: the ratios of their efficiency exponents, from the law file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from speechscale.records.law_sections import EfficiencyRatio, Missing
from speechscale.report import formatting
from speechscale.report.folder import UNSEEN, StudyResults

PHENOMENON_SEPARATOR = "."  # separates a task from one of its phenomena, as in `minimal_pairs.agreement`
RATIO_EXPLANATION = (
    "A ratio of exponents is a rate per decade: where it is 2, ten times the compute improves the first series as much "
    "as a hundred times the compute improves the second. It does not say that the second needs so many times the "
    "compute."
)


@dataclass(frozen=True)
class EfficiencyComparison:
    """One score of two series."""

    series: str
    reference: str
    score: str
    found: EfficiencyRatio | Missing

    @property
    def name(self) -> str:
        """The label of the score."""
        task = formatting.short_task(self.score.removesuffix(UNSEEN))
        return f"{task}, {formatting.CONDITIONS['unseen']}" if self.score.endswith(UNSEEN) else task

    @property
    def ratio(self) -> str:
        """The ratio of exponents with its interval."""
        if isinstance(self.found, Missing):
            return "–"
        return formatting.estimate(self.found.ratio, self.found.interval95)

    @property
    def crossing(self) -> str:
        """Where the second series reaches the best score of the first, or why that is not known."""
        if isinstance(self.found, Missing):
            return self.found.missing
        crossing = self.found.crossing
        if isinstance(crossing, Missing):
            return crossing.missing
        return f"{crossing.message} {formatting.bounds(crossing.interval95)}".rstrip()


def efficiency_comparisons(study: StudyResults) -> Iterator[EfficiencyComparison]:
    """Every score of whole tasks of every two series, the later one against the earlier."""
    efficiency = study.law.efficiency if study.law else {}
    if isinstance(efficiency, Missing):
        return
    for reference, series in combinations(study.series, 2):
        for score, found in efficiency.get(f"{series}/{reference}", {}).items():
            if PHENOMENON_SEPARATOR not in score:
                yield EfficiencyComparison(series, reference, score, found)
