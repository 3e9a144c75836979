"""Official counts of items."""

from __future__ import annotations

from speechscale.datasets.benchmarks.official_counts import (
    OFFICIAL_COUNTS,
    ItemCounts,
    differences_from_official,
)


def test_official_counts_agree_with_each_other() -> None:
    sentences = OFFICIAL_COUNTS["zerospeech", "sblimp", "dev"]
    assert sentences.groups is not None and sentences.pairs == sentences.groups * (sentences.voices or 0)
    assert (
        2 * (sentences.pairs or 0) == 50_400
        and 2 * (OFFICIAL_COUNTS["zerospeech", "sblimp", "test"].pairs or 0) == 126_000
    )
    assert not list(differences_from_official("zerospeech", "sblimp", "dev", sentences))
    assert not list(differences_from_official("jsonl", "sblimp", "dev", ItemCounts(1, 1, 1)))
    assert list(differences_from_official("storycloze", "sstorycloze", "", ItemCounts(1872, 1872, 1))) == [
        "sstorycloze: 1,872 items, officially 1,871 (1 more)"
    ]
