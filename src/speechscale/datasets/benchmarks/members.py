"""Members of benchmark pairs as layouts state them, before anyone has opened their audio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.records.items import SSTORYCLOZE, TSTORYCLOZE, Label, task_from_names
from speechscale.records.validation import first_fault

STORY_TASKS = (SSTORYCLOZE, TSTORYCLOZE)

PairKey = tuple[str, str]  # task and pair_id


@dataclass(frozen=True)
class BenchmarkSource:
    """A benchmark on disk, and how to read it."""

    path: Path
    layout: str
    root: Path  # audio paths of the manifest are relative to it; no file outside it is read
    task: str | None = None  # where the layout does not state it
    subfolders: str | None = None  # what the folders of a tree are: "voice", "phenomenon" or "condition"


@dataclass(frozen=True)
class Member:
    """One recording of a pair, its audio not checked yet."""

    where: str  # place in the benchmark, for the text of a skip
    label: Label
    utterance_fields: Mapping[str, object]  # all fields of `Utterance` except `extra`, not validated


@dataclass(frozen=True)
class MemberFault:
    """A recording that cannot be used, and the pair that is lost with it, where it is known."""

    where: str
    reason: str
    detail: str
    pair: PairKey | None = None


def make_member(
    source: BenchmarkSource, audio: Path | str, where: str, label: Mapping[str, object], **fields: object
) -> Member | MemberFault:
    """A member from the fields of its label and of its utterance, or a fault where the label is invalid.

    Args:
        source: the benchmark.
        audio: a `Path` below the benchmark, from which the id is made; or a `str` together with an `id` in `fields`.
        where: place in the benchmark, for the text of a skip.
        label: fields of `Label`.
        **fields: fields of `Utterance`; None: the default.
    """
    try:
        validated = Label.model_validate(label)
    except ValidationError as error:
        task, pair_id = label.get("task"), label.get("pair_id")
        pair = (str(task), str(pair_id)) if task and pair_id else None
        return MemberFault(where, "bad entry", f"{first_fault(error, 'the entry')}; correct it", pair)
    defaults: dict[str, object] = {
        "dataset": validated.task,
        "split": "test",
        "audio": str(audio),
        "speaker": validated.voice or None,
    }
    if isinstance(audio, Path):
        defaults["id"] = f"{validated.task}/{audio.relative_to(source.path).with_suffix('')}"
    given = {key: value for key, value in fields.items() if value is not None}
    return Member(where, validated, defaults | given)


def list_wavs(folder: Path) -> list[Path]:
    """Wavs directly in a folder, by name, without hidden files (archives leave `._x.wav` behind)."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() == ".wav" and not path.name.startswith(".")
    )


def list_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, by name, without those that archives leave behind."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def require_task(source: BenchmarkSource, *names: str) -> str:
    """The task that the user states, else that of the given names, else that of the benchmark's own folder.

    Raises:
        UserError: none of them states a task.
    """
    task = source.task or task_from_names(*names, source.path.resolve().name)
    if task is None:
        raise UserError(
            f"{source.path}: its name does not say which task it is; say it with --task, as sstorycloze, "
            "tstorycloze, sblimp or swuggy."
        )
    return task
