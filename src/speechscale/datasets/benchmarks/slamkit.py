"""slamkit's trees: folders of wavs that begin with a number, `<int>+…` or `<int>_…`; 2k is better than 2k + 1.

slamkit sorts the numbers of a folder and takes neighbours for pairs, so that a missing file shifts all pairs after it;
here numbers make the pairs. A label in the name must agree with the number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks import storycloze
from speechscale.datasets.benchmarks.members import (
    STORIES,
    Benchmark,
    Fault,
    Member,
    folders_in,
    member,
    task_of,
    wavs_in,
)
from speechscale.errors import UserError

SUBFOLDERS = ("voice", "phenomenon", "condition")
_NUMBERED = re.compile(r"(?P<number>[0-9]+)(?:[+_].*)?")


def looks_like_one(folder: Path) -> bool:
    """Whether the first wav in its folders has a number."""
    inner = folders_in(folder) if folder.is_dir() else []
    first = next((wavs[0] for place in inner if (wavs := wavs_in(place))), None)
    return first is not None and _NUMBERED.fullmatch(first.stem) is not None


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Every numbered wav, folder by folder; without folders, those of the benchmark's own.

    A folder is a voice for stories (the multi-speaker trees) and a phenomenon else, unless the benchmark says.

    Raises:
        UserError: no wavs, no known task, or a folder whose numbers begin with an odd one.
    """
    task = task_of(benchmark)
    kind = benchmark.subfolders or ("voice" if task in STORIES else "phenomenon")
    if kind not in SUBFOLDERS:
        raise UserError(f"--subfolders {kind}: no such kind; known: {', '.join(SUBFOLDERS)}.")
    inner = [folder for folder in folders_in(benchmark.path) if wavs_in(folder)]
    if not inner and not wavs_in(benchmark.path):
        raise UserError(
            f"{benchmark.path}: no wavs here or in its folders, wanted <int>+….wav or <int>_….wav."
        )
    for folder in inner or [benchmark.path]:
        yield from _folder(benchmark, task, folder, {kind: folder.name} if inner else {})


def _folder(benchmark: Benchmark, task: str, folder: Path, said: dict[str, str]) -> Iterator[Member | Fault]:
    numbered = [(wav, _NUMBERED.fullmatch(wav.stem)) for wav in wavs_in(folder)]
    wavs = sorted((int(match["number"]), wav) for wav, match in numbered if match)
    _refuse_odd_start(folder, [number for number, _ in wavs])
    times = Counter(number for number, _ in wavs)
    for wav, match in numbered:
        if match is None:
            where = wav.relative_to(benchmark.path).as_posix()
            yield Fault(where, "bad name", "wanted <int>+….wav or <int>_….wav; rename or remove it")
    for number, wav in wavs:
        where = wav.relative_to(benchmark.path).as_posix()
        name = "/".join([*_place(said), str(number // 2), *([said["voice"]] if "voice" in said else [])])
        if times[number] > 1:
            detail = (
                f"{times[number]} files of this folder have the number {number}; which is meant is not known"
            )
            yield Fault(where, "same number", detail, (task, name))
        elif _labelled_otherwise(wav, number):
            detail = f"its name and its number {number} (even: correct) disagree; correct one of them"
            yield Fault(where, "labels disagree", detail, (task, name))
        else:
            group = "/".join([*_place(said), _question(wav, number)])
            label = {"task": task, "group_id": group, "pair_id": name, "correct": number % 2 == 0}
            yield member(benchmark, wav, where, label | said)


def _place(said: dict[str, str]) -> list[str]:
    """The folder, where it is not a voice: one voice more is no other question."""
    return [folder for key, folder in said.items() if key != "voice"]


def _question(wav: Path, number: int) -> str:
    """What is asked: the pair that the name tells, as those of the release do, else the number."""
    named = storycloze.NAME.fullmatch(wav.stem)
    return named["pair"] if named else str(number // 2)


def _labelled_otherwise(wav: Path, number: int) -> bool:
    named = storycloze.NAME.fullmatch(wav.stem)
    return named is not None and (named["label"] == "correct") != (number % 2 == 0)


def _refuse_odd_start(folder: Path, numbers: list[int]) -> None:
    """Numbers 1, 2, 3, 4 make pairs for slamkit with the odd one correct, which is not what its trees mean.

    Raises:
        UserError: the numbers are without gap, and begin and end like that.
    """
    whole = bool(numbers) and numbers == list(range(numbers[0], numbers[-1] + 1))
    if whole and numbers[0] % 2 == 1 and numbers[-1] % 2 == 0:
        raise UserError(
            f"{folder}: its files are numbered from {numbers[0]} to {numbers[-1]}, wanted from an even number, the "
            "correct member's; number them again."
        )
