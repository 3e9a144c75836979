"""SALMon as wavs: a folder a part, in it `sample_<index>_<option>.wav`; option 0 is the recording left as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks.members import (
    SALMON,
    Benchmark,
    Fault,
    Member,
    folders_in,
    member,
    wavs_in,
)
from speechscale.errors import UserError

PARTS = (
    "bg_alignment",
    "bg_all_consistency",
    "bg_domain_consistency",
    "gender_consistency",
    "rir_consistency",
    "sentiment_alignment",
    "sentiment_consistency",
    "speaker_consistency",
)
_NAME = re.compile(r"[^_]*_(?P<index>[0-9]+)_(?P<option>[0-9]+)")


def looks_like_one(folder: Path) -> bool:
    return folder.is_dir() and any(wavs_in(part) for part in _parts(folder))


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Every recording of every part there; a part is a condition, and a phenomenon to average over.

    Raises:
        UserError: no part there.
    """
    parts = _parts(benchmark.path)
    if not parts:
        raise UserError(f"{benchmark.path}: no part of SALMon here; wanted folders {', '.join(PARTS)}.")
    absent = [part for part in PARTS if part not in {folder.name for folder in parts}]
    if absent and parts != [benchmark.path]:
        note(f"SALMon has 8 parts, here are {len(parts)}: no {', '.join(absent)}")
    for folder in parts:
        for wav in wavs_in(folder):
            yield _member(benchmark, folder.name, wav)


def _parts(folder: Path) -> list[Path]:
    if folder.name in PARTS:
        return [folder]
    return [inner for inner in folders_in(folder) if inner.name in PARTS]


def _member(benchmark: Benchmark, part: str, wav: Path) -> Member | Fault:
    where = f"{part}/{wav.name}"
    match = _NAME.fullmatch(wav.stem)
    if match is None:
        return Fault(where, "bad name", "wanted sample_<index>_<option>.wav; rename or remove it")
    name = f"{part}/{int(match['index'])}"
    label = {
        "task": benchmark.task or SALMON,
        "group_id": name,
        "pair_id": name,
        "correct": int(match["option"]) == 0,
        "phenomenon": part,
        "condition": part,
    }
    return member(benchmark, wav, where, label)
