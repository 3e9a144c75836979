"""Recordings of ZeroSpeech 2021 (sLM21): wavs with opaque names, labelled by gold files; sWUGGY and sBLIMP."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.benchmarks.members import (
    BenchmarkSource,
    Member,
    MemberFault,
    make_member,
)
from speechscale.datasets.benchmarks.zerospeech_gold import (
    GOLD_COLUMNS,
    GoldFault,
    GoldKind,
    GoldRow,
    read_gold,
)
from speechscale.errors import SampleFault, UserError
from speechscale.records.items import SBLIMP, SWUGGY
from speechscale.speech.audio.decode import resolve_inside

GOLD, INDEX = "gold.csv", "index.json"
_SET_NAMES = ("dev", "test")
_TASKS: dict[GoldKind, str] = {"lexical": SWUGGY, "syntactic": SBLIMP}


@dataclass(frozen=True)
class Subset:
    """A folder of wavs and its gold file."""

    kind: GoldKind
    name: str  # "dev" or "test"
    wavs: Path
    gold: Path

    @property
    def task(self) -> str:
        """Name of the benchmark."""
        return _TASKS[self.kind]

    def group_id(self, item: tuple[str, ...]) -> str:
        """The item's id, unique over all subsets of a task."""
        return "/".join([self.name, *item])

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def matches(folder: Path) -> bool:
    """Whether the folder holds, or is, a lexical or syntactic subset."""
    return folder.is_dir() and bool(find_subsets(folder))


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read every row of every gold file; a subset without gold is noted and left out if another has gold.

    Raises:
        UserError: there is no subset, no gold file at all, or one without a required column.
    """
    subsets = find_subsets(source.path)
    if not subsets:
        raise UserError(
            f"{source.path}: no lexical or syntactic folder with dev or test in it; name the folder that has one."
        )
    with_gold = [subset for subset in subsets if subset.gold.is_file()]
    without_gold = ", ".join(str(subset) for subset in subsets if subset not in with_gold)
    if not with_gold:
        raise UserError(
            f"{subsets[0].gold}: no such file, and without it nobody knows what the wavs in {without_gold} are; "
            f"`zrc datasets:pull sLM21-dataset` brings it, the archive zerospeech2021-dataset.zip does not."
        )
    if without_gold:
        note(f"{without_gold} left out: no {GOLD} there")
    for subset in with_gold:
        yield from _read_subset(source, subset, note)


def find_subsets(folder: Path) -> list[Subset]:
    """The subsets in a folder, which may be the whole dataset, one kind of it, or one subset.

    Raises:
        UserError: the index of the dataset cannot be read.
    """
    gold_files = _gold_files_of_index(folder)
    found = []
    for kind in GOLD_COLUMNS:
        for name in _SET_NAMES:
            if folder.name == name and folder.parent.name == kind:
                wavs = folder
            else:
                wavs = folder / name if folder.name == kind else folder / kind / name
            if wavs.is_dir():
                found.append(Subset(kind, name, wavs, gold_files.get(f"{kind}_{name}", wavs / GOLD)))
    return found


def _gold_files_of_index(folder: Path) -> dict[str, Path]:
    """Gold files by subset as the index of the dataset states them (`subsets.lexical_dev.items.gold`)."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        subsets = json.loads(path.read_text(encoding="utf-8"))["subsets"]
        files = {
            name: subset["items"]["gold"]["file"]
            for name, subset in subsets.items()
            if "gold" in subset["items"]
        }
        return {name: resolve_inside(folder, file) for name, file in files.items()}
    except SampleFault as fault:
        raise UserError(f"{path}: {fault.detail}; correct it, or remove it.") from fault
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not the index of a dataset ({error!r}); remove it, and the {GOLD} next to the wavs is read."
        ) from error


def _read_subset(
    source: BenchmarkSource, subset: Subset, note: Callable[[str], None]
) -> Iterator[Member | MemberFault]:
    prefers_phones = subset.kind == "lexical" and not _has_spelled_nonword(subset.gold)
    count = 0
    for line, row in read_gold(subset.gold, subset.kind):
        count += 1
        where = f"{subset}/{subset.gold.name}:{line}"
        if isinstance(row, GoldFault):
            pair = (subset.task, f"{subset.group_id(row.item)}/{row.voice}") if row.item else None
            yield MemberFault(where, row.reason, row.detail, pair)
        else:
            yield _member(source, subset, where, row, prefers_phones)
    num_wavs = sum(entry.name.endswith(".wav") for entry in os.scandir(subset.wavs))
    if num_wavs > count:
        note(f"{subset}: {num_wavs} wavs but {count} rows of {subset.gold.name}; only these are read")


def _member(
    source: BenchmarkSource, subset: Subset, where: str, row: GoldRow, prefers_phones: bool
) -> Member | MemberFault:
    group = subset.group_id(row.item)
    label = {
        "task": subset.task,
        "group_id": group,
        "pair_id": f"{group}/{row.voice}",
        "correct": row.correct,
        "voice": row.voice,
        "phenomenon": row.phenomenon,
        "condition": subset.name,
        "frequency": row.frequency,
    }
    words = (row.phones, row.word) if prefers_phones else (row.word, row.phones)
    transcript = next((text for text in (row.transcription, *words) if text is not None), None)
    return make_member(
        source,
        subset.wavs / f"{row.filename}.wav",
        f"{where} ({row.filename})",
        label,
        split=subset.name,
        transcript=transcript,
    )


def _has_spelled_nonword(gold: Path) -> bool:
    """Whether any non-word is spelled.

    Words and non-words must be written alike to be compared. Where no non-word is spelled, the phones are taken as
    the text of both, as the challenge's evaluation does.
    """
    rows = (row for _, row in read_gold(gold, "lexical") if isinstance(row, GoldRow))
    return any(row.word is not None for row in rows if not row.correct)
