"""SALMon as wavs: one folder per part with `sample_<index>_<option>.wav`; option 0 is the unmodified recording."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks.members import (
    BenchmarkSource,
    Member,
    MemberFault,
    list_folders,
    list_wavs,
    make_member,
)
from speechscale.errors import UserError
from speechscale.records.items import SALMON

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
_MEMBER_NAME = re.compile(r"[^_]*_(?P<index>[0-9]+)_(?P<option>[0-9]+)")


def matches(folder: Path) -> bool:
    """Whether the folder is a part of SALMon, or holds one, with wavs."""
    return folder.is_dir() and any(list_wavs(part) for part in _part_folders(folder))


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read every recording of every part; the part is the condition, and a phenomenon of the macro average.

    Raises:
        UserError: there is no part.
    """
    folders = _part_folders(source.path)
    if not folders:
        raise UserError(f"{source.path}: no part of SALMon here; wanted folders {', '.join(PARTS)}.")
    missing = [part for part in PARTS if part not in {folder.name for folder in folders}]
    if missing and folders != [source.path]:
        note(f"SALMon has 8 parts, here are {len(folders)}: no {', '.join(missing)}")
    for folder in folders:
        for wav in list_wavs(folder):
            yield _member(source, folder.name, wav)


def _part_folders(folder: Path) -> list[Path]:
    if folder.name in PARTS:
        return [folder]
    return [subfolder for subfolder in list_folders(folder) if subfolder.name in PARTS]


def _member(source: BenchmarkSource, part: str, wav: Path) -> Member | MemberFault:
    where = f"{part}/{wav.name}"
    match = _MEMBER_NAME.fullmatch(wav.stem)
    if match is None:
        return MemberFault(where, "bad name", "wanted sample_<index>_<option>.wav; rename or remove it")
    name = f"{part}/{int(match['index'])}"
    label = {
        "task": source.task or SALMON,
        "group_id": name,
        "pair_id": name,
        "correct": int(match["option"]) == 0,
        "phenomenon": part,
        "condition": part,
    }
    return make_member(source, wav, where, label)
