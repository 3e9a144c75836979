"""slamkit's trees: folders of wavs `<int>+…` or `<int>_…`, in which 2k is the correct and 2k + 1 the wrong member.

slamkit sorts the numbers of a folder and pairs neighbours, so that a missing file shifts all later pairs. Here the
numbers themselves make the pairs. A label in the name must agree with the number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks import storycloze
from speechscale.datasets.benchmarks.members import (
    STORY_TASKS,
    BenchmarkSource,
    Member,
    MemberFault,
    list_folders,
    list_wavs,
    make_member,
    require_task,
)
from speechscale.errors import UserError

SUBFOLDERS = ("voice", "phenomenon", "condition")
_NUMBERED = re.compile(r"(?P<number>[0-9]+)(?:[+_].*)?")


def matches(folder: Path) -> bool:
    """Whether the first wav in the subfolders has a number."""
    subfolders = list_folders(folder) if folder.is_dir() else []
    first = next((wavs[0] for subfolder in subfolders if (wavs := list_wavs(subfolder))), None)
    return first is not None and _NUMBERED.fullmatch(first.stem) is not None


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read every numbered wav, subfolder by subfolder, or of the folder itself where it has none.

    By default a subfolder is a voice of StoryCloze (the multi-speaker trees) and a phenomenon of other tasks.

    Raises:
        UserError: no wavs, no known task, or a folder whose numbers begin with an odd one.
    """
    task = require_task(source)
    kind = source.subfolders or ("voice" if task in STORY_TASKS else "phenomenon")
    if kind not in SUBFOLDERS:
        raise UserError(f"--subfolders {kind}: no such kind; known: {', '.join(SUBFOLDERS)}.")
    subfolders = [folder for folder in list_folders(source.path) if list_wavs(folder)]
    if not subfolders and not list_wavs(source.path):
        raise UserError(f"{source.path}: no wavs here or in its folders, wanted <int>+….wav or <int>_….wav.")
    for folder in subfolders or [source.path]:
        yield from _read_folder(source, task, folder, {kind: folder.name} if subfolders else {})


def _read_folder(
    source: BenchmarkSource, task: str, folder: Path, folder_label: dict[str, str]
) -> Iterator[Member | MemberFault]:
    named = [(wav, _NUMBERED.fullmatch(wav.stem)) for wav in list_wavs(folder)]
    numbered = sorted((int(match["number"]), wav) for wav, match in named if match)
    _require_even_start(folder, [number for number, _ in numbered])
    files_of_number = Counter(number for number, _ in numbered)
    for wav, match in named:
        if match is None:
            where = wav.relative_to(source.path).as_posix()
            yield MemberFault(where, "bad name", "wanted <int>+….wav or <int>_….wav; rename or remove it")
    # Another voice is no other item, so a folder that is a voice is part of the pair's name only.
    prefix = [name for kind, name in folder_label.items() if kind != "voice"]
    suffix = [name for kind, name in folder_label.items() if kind == "voice"]
    for number, wav in numbered:
        where = wav.relative_to(source.path).as_posix()
        pair_id = "/".join([*prefix, str(number // 2), *suffix])
        if (count := files_of_number[number]) > 1:
            detail = f"{count} files of this folder have the number {number}; which is meant is not known"
            yield MemberFault(where, "same number", detail, (task, pair_id))
        elif _contradicts_name(wav, number):
            detail = f"its name and its number {number} (even: correct) disagree; correct one of them"
            yield MemberFault(where, "labels disagree", detail, (task, pair_id))
        else:
            group = "/".join([*prefix, _item_name(wav, number)])
            label = {"task": task, "group_id": group, "pair_id": pair_id, "correct": number % 2 == 0}
            yield make_member(source, wav, where, label | folder_label)


def _item_name(wav: Path, number: int) -> str:
    """The pair part of a name as in the release of StoryCloze, else the number of the pair."""
    match = storycloze.MEMBER_NAME.fullmatch(wav.stem)
    return match["pair"] if match else str(number // 2)


def _contradicts_name(wav: Path, number: int) -> bool:
    match = storycloze.MEMBER_NAME.fullmatch(wav.stem)
    return match is not None and (match["label"] == "correct") != (number % 2 == 0)


def _require_even_start(folder: Path, numbers: list[int]) -> None:
    """Refuse numbers 1, 2, 3, 4, which slamkit would pair with the odd one correct, against what its trees mean.

    Raises:
        UserError: the numbers have no gap, begin with an odd one and end with an even one.
    """
    has_no_gap = bool(numbers) and numbers == list(range(numbers[0], numbers[-1] + 1))
    if has_no_gap and numbers[0] % 2 == 1 and numbers[-1] % 2 == 0:
        raise UserError(
            f"{folder}: its files are numbered from {numbers[0]} to {numbers[-1]}, wanted from an even number, the "
            "correct member's; number them again."
        )
