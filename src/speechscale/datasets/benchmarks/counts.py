"""How many items the official releases have, and in what a copy differs from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from speechscale.datasets.benchmarks.members import SALMON, SBLIMP, SSTORYCLOZE, SWUGGY, TSTORYCLOZE
from speechscale.datasets.benchmarks.salmon import PARTS


@dataclass(frozen=True)
class Count:
    """Of one task in one condition; None: not known."""

    groups: int | None = None
    pairs: int | None = None
    voices: int | None = None


# By layout, task and condition. sBLIMP: 50,400 and 126,000 wavs (slamkit issue 17), 6,300 pairs of sentences in dev
# (slm_scaling RESULTS.md). sWUGGY: zerospeech.com, task 4. StoryCloze: 1,871 questions (slm_scaling; interleaved_lm);
# the multi-speaker set has 1,871 x 4 voices x 2 tasks, its "15k rows". SALMon: `n_samples` of its scripts, a part.
_STORIES, _SENTENCES = Count(groups=1871), Count(groups=6300, pairs=25_200, voices=4)
OFFICIAL = {
    ("zerospeech", SBLIMP, "dev"): _SENTENCES,
    ("zerospeech", SBLIMP, "test"): Count(pairs=63_000),
    ("zerospeech", SWUGGY, "dev"): Count(groups=5000),
    ("zerospeech", SWUGGY, "test"): Count(groups=20_000),
    ("storycloze", SSTORYCLOZE, ""): _STORIES,
    ("storycloze", TSTORYCLOZE, ""): _STORIES,
    ("slamkit", SSTORYCLOZE, ""): _STORIES,
    ("slamkit", TSTORYCLOZE, ""): _STORIES,
    ("slamkit", SBLIMP, ""): Count(pairs=25_200),
    ("parquet", SSTORYCLOZE, ""): Count(groups=1871, voices=4),
    ("parquet", TSTORYCLOZE, ""): Count(groups=1871, voices=4),
    **{(layout, SALMON, part): Count(groups=200) for layout in ("salmon", "parquet") for part in PARTS},
}
_WORDS = {"groups": "items", "pairs": "pairs of recordings", "voices": "voices"}


def differences(layout: str, task: str, condition: str, found: Count) -> Iterator[str]:
    """A sentence for every number that is not the official one."""
    official = OFFICIAL.get((layout, task, condition), Count())
    for name, what in _WORDS.items():
        wanted, here = getattr(official, name), getattr(found, name)
        if wanted is not None and here != wanted:
            more = f"{abs(here - wanted):,} {'more' if here > wanted else 'fewer'}"
            yield f"{task} {condition}".strip() + f": {here:,} {what}, officially {wanted:,} ({more})"
