"""Published scores and their conventions."""

from __future__ import annotations

from dataclasses import astuple

from speechscale.evals.conventions import PRESETS
from speechscale.evals.published_scores import PUBLISHED_SCORES, ReportedConvention


def test_conventions_of_published_scores_agree_with_the_presets() -> None:
    """Known fields agree with the preset of the same code; all others are "unknown"."""
    conventions = {(each.system, each.sblimp): each.convention for each in PUBLISHED_SCORES}
    assert len(conventions) == len(PUBLISHED_SCORES)
    study, slam = conventions["Cuervo & Marxer", 61.3], conventions["SLAM", 61.1]
    for row, preset in ((study, PRESETS["official"]), (slam, PRESETS["slamkit"])):
        assert row.nll == preset.nll and (row.closing == "scored") == preset.terminal
    assert (
        study.sblimp_mean_over == "phenomena"
        and conventions["Cuervo & Marxer", 58.36].sblimp_mean_over == "items"
    )
    assert conventions["Pythia 6.9B", 80.0] == ReportedConvention(*5 * ["unknown"])
    assert conventions["GSLM", 54.2].nll == "unknown" and conventions["Spirit LM 7B", 58.3].ties == "unknown"
    assert all(value for each in conventions.values() for value in astuple(each))
