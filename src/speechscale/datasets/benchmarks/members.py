"""What a benchmark's layout tells of a recording: which item it is a member of, or why it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from speechscale.datasets.corpora.entries import sentence_of
from speechscale.errors import UserError
from speechscale.records.items import Label

SWUGGY, SBLIMP, SSTORYCLOZE, TSTORYCLOZE, SALMON = (
    "swuggy", "sblimp", "sstorycloze", "tstorycloze", "salmon"
)  # fmt: skip
STORIES = (SSTORYCLOZE, TSTORYCLOZE)

# what folders are called that hold a task, in letters only: sStoryCloze, ms_sSC, swuggy_inter, topic_story_cloze, …
_NAMES = {
    TSTORYCLOZE: re.compile(r"tstory|topicstory|tsc"),
    SSTORYCLOZE: re.compile(r"sstory|spokenstory|ssc"),
    SWUGGY: re.compile(r"swuggy"),
    SBLIMP: re.compile(r"sblimp"),
    SALMON: re.compile(r"salmon"),
}

PairKey = tuple[str, str]  # task and pair_id


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on disk, and how to read it."""

    path: Path
    layout: str
    root: Path  # what audio paths in its manifest are relative to; nothing outside is read
    task: str | None = None  # where the layout does not say it
    subfolders: str | None = None  # what the folders of a tree are: "voice", "phenomenon" or "condition"


@dataclass(frozen=True)
class Member:
    """One recording of a pair. Nobody has looked at its audio yet."""

    where: str  # names it in a sentence
    label: Label
    told: Mapping[str, Any]  # the fields of `Utterance` but `extra`


@dataclass(frozen=True)
class Fault:
    """A recording that cannot be used, and the pair that is lost with it, where that is known."""

    where: str
    reason: str
    detail: str
    pair: PairKey | None = None


def member(
    benchmark: Benchmark, audio: Path | str, where: str, label: Mapping[str, Any], **told: Any
) -> Member | Fault:
    """A member by the fields of its label and of its utterance; what these cannot be is a fault.

    The id of a file is the task and its path below the benchmark, without the ending; else it is told.
    """
    try:
        checked = Label.model_validate(label)
    except ValidationError as error:
        pair = (label.get("task"), label.get("pair_id"))
        known = (str(pair[0]), str(pair[1])) if all(pair) else None
        return Fault(where, "bad entry", f"{sentence_of(error)}; correct it", known)
    if isinstance(audio, Path):
        told = {"id": f"{checked.task}/{audio.relative_to(benchmark.path).with_suffix('')}"} | told
        audio = str(audio)
    fields = {"dataset": checked.task, "split": "test", "audio": audio, "speaker": checked.voice or None}
    return Member(where, checked, fields | {key: value for key, value in told.items() if value is not None})


def wavs_in(folder: Path) -> list[Path]:
    """The wavs of a folder by name, not those of folders in it, nor what unpacking leaves behind (`._x.wav`)."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() == ".wav" and not path.name.startswith(".")
    )


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder by name, but those that unpacking leaves behind."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def task_named(*names: str) -> str | None:
    """The task that the first telling of these names of folders names."""
    for name in names:
        letters = re.sub(r"[^a-z]", "", name.lower())
        for task, pattern in _NAMES.items():
            if pattern.search(letters):
                return task
    return None


def task_of(benchmark: Benchmark, *names: str) -> str:
    """The task that is asked for, or that one of these names names, or the benchmark's own.

    Raises:
        UserError: none does.
    """
    task = benchmark.task or task_named(*names, benchmark.path.resolve().name)
    if task is None:
        raise UserError(
            f"{benchmark.path}: its name does not say which task it is; say it with --task, as sstorycloze, "
            "tstorycloze, sblimp or swuggy."
        )
    return task
