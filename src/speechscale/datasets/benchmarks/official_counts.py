"""Numbers of items in the official releases, and how a copy differs from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from speechscale.datasets.benchmarks.salmon import PARTS
from speechscale.records.items import SALMON, SBLIMP, SSTORYCLOZE, SWUGGY, TSTORYCLOZE


@dataclass(frozen=True)
class ItemCounts:
    """Counts of one task in one condition; None: not known."""

    groups: int | None = None
    pairs: int | None = None
    voices: int | None = None


# By layout, task and condition. sBLIMP: 50,400 and 126,000 wavs (slamkit issue 17), 6,300 pairs of sentences in dev
# (slm_scaling RESULTS.md). sWUGGY: zerospeech.com, task 4. StoryCloze: 1,871 questions (slm_scaling; interleaved_lm);
# the multi-speaker set has 1,871 x 4 voices x 2 tasks, its "15k rows". SALMon: `n_samples` of its scripts, per part.
_STORIES, _SENTENCES = ItemCounts(groups=1871), ItemCounts(groups=6300, pairs=25_200, voices=4)
OFFICIAL_COUNTS = {
    ("zerospeech", SBLIMP, "dev"): _SENTENCES,
    ("zerospeech", SBLIMP, "test"): ItemCounts(pairs=63_000),
    ("zerospeech", SWUGGY, "dev"): ItemCounts(groups=5000),
    ("zerospeech", SWUGGY, "test"): ItemCounts(groups=20_000),
    ("storycloze", SSTORYCLOZE, ""): _STORIES,
    ("storycloze", TSTORYCLOZE, ""): _STORIES,
    ("slamkit", SSTORYCLOZE, ""): _STORIES,
    ("slamkit", TSTORYCLOZE, ""): _STORIES,
    ("slamkit", SBLIMP, ""): ItemCounts(pairs=25_200),
    ("parquet", SSTORYCLOZE, ""): ItemCounts(groups=1871, voices=4),
    ("parquet", TSTORYCLOZE, ""): ItemCounts(groups=1871, voices=4),
    **{(layout, SALMON, part): ItemCounts(groups=200) for layout in ("salmon", "parquet") for part in PARTS},
}
_DESCRIPTIONS = {"groups": "items", "pairs": "pairs of recordings", "voices": "voices"}


def differences_from_official(layout: str, task: str, condition: str, found: ItemCounts) -> Iterator[str]:
    """Yield a sentence for every count that differs from the official one.

    Args:
        layout: a key of `BENCHMARK_LAYOUTS`.
        task: name of the benchmark.
        condition: of the labels: a split, or a part of SALMon.
        found: counts of the copy.
    """
    official = OFFICIAL_COUNTS.get((layout, task, condition), ItemCounts())
    for name, description in _DESCRIPTIONS.items():
        wanted, count = getattr(official, name), getattr(found, name)
        if wanted is not None and count != wanted:
            difference = f"{abs(count - wanted):,} {'more' if count > wanted else 'fewer'}"
            yield f"{task} {condition}".strip() + (
                f": {count:,} {description}, officially {wanted:,} ({difference})"
            )
