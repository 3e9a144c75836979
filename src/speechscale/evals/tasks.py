"""Benchmark pairs, joined by the labels of their utterances and never by file name or row order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from speechscale.errors import UserError
from speechscale.evals.contrasts import ContrastSource, contrast_of_texts, contrast_of_units
from speechscale.records.items import Label, row_label
from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import id_hash
from speechscale.records.shards import Shard, open_shards, unigram_identity

# Equal in both members of a pair.
_COMMON_LABELS = ("group_id", "voice", "phenomenon", "condition", "prompt", "contrast", "template")


@dataclass(frozen=True)
class Pair:
    """Both members of a pair as token ids, without the BOS and EOS that the scorer adds. Labels: see `Label`."""

    task: str
    group_id: str
    pair_id: str
    correct: np.ndarray  # integers [tokens]
    wrong: np.ndarray
    voice: str = ""
    phenomenon: str = ""
    condition: str = ""
    frequency: float | None = None
    prompt: int | None = None  # leading tokens of the prompt, which both members share; None: unknown
    contrast: str = ""  # what differs between the members; "": nothing, or not known
    contrast_source: ContrastSource | Literal[""] = ""
    template: str = ""
    name_correct: str = ""  # of the recording: the stem of its file, or its id
    name_wrong: str = ""


@dataclass(frozen=True)
class _Member:
    label: Label
    name: str
    text: str  # its transcript; empty where unknown
    units: np.ndarray


@dataclass(frozen=True)
class Benchmarks:
    """Labelled shards of several folders. `unpaired` and `unlabelled` are complete after `pairs` has been read."""

    folders: list[list[Shard]]
    pairs: Iterator[Pair]
    unpaired: list[str] = field(default_factory=list)  # task/pair_id of pairs that lack a member
    unlabelled: Counter[str] = field(default_factory=Counter)  # pairs with an inferred prompt, by task

    @cached_property
    def tasks_of_folders(self) -> list[set[str]]:
        """Names of the tasks of each folder, in the order of `folders`; reads every label.

        Raises:
            UserError: an utterance without labels, named.
        """
        return [_task_names(folder) for folder in self.folders]

    @property
    def tasks(self) -> set[str]:
        """Names of all tasks."""
        return set().union(*self.tasks_of_folders)

    def shards_of(self, task: str) -> list[Shard]:
        """All shards of the folders with a task."""
        return [
            shard
            for folder, tasks in zip(self.folders, self.tasks_of_folders, strict=True)
            if task in tasks
            for shard in folder
        ]


def open_benchmarks(
    folders: Sequence[Path], *, given: Literal["nothing", "prompt"] = "nothing"
) -> Benchmarks:
    """Open folders of labelled shards.

    Args:
        folders: each with shards.
        given: see `Convention`; with "prompt", prompts that no label states are inferred.

    Raises:
        UserError: no shards, or no pair with a prompt where prompts are given.
    """
    opened = [open_shards(folder) for folder in folders]
    shards = [shard for folder in opened for shard in folder]
    unpaired, unlabelled = list[str](), Counter[str]()
    pairs = read_pairs(shards, unpaired)
    if given == "prompt":
        _require_prompt(with_inferred_prompts(read_pairs(shards, []), Counter()))
        pairs = with_inferred_prompts(pairs, unlabelled)
    return Benchmarks(opened, pairs, unpaired, unlabelled)


def _require_prompt(pairs: Iterable[Pair]) -> None:
    if not any(pair.prompt for pair in pairs):
        raise UserError(
            "no pair has a prompt: no label gives one, and no two members begin with the same unit; score without "
            "--given prompt."
        )


def read_pairs(shards: Sequence[Shard], unpaired: list[str]) -> Iterator[Pair]:
    """Join members on (task, pair_id), in the order of the shards.

    Only members without their partner are held in memory.

    Args:
        shards: labelled shards.
        unpaired: gets task/pair_id of the pairs that lack a member, after all shards are read.

    Raises:
        UserError: an utterance without labels, a member twice, partners with different labels, or no complete pair; the
            sentence names it.
    """
    waiting: dict[tuple[str, str], _Member] = {}
    joined: set[int] = set()
    for shard in shards:
        for member in _members(shard):
            key = member.label.task, member.label.pair_id
            name = "/".join(key)
            partner = waiting.pop(key, None)
            if id_hash(name) in joined or (partner and partner.label.correct == member.label.correct):
                which = "correct" if member.label.correct else "wrong"
                raise UserError(
                    f"{shard.folder}: {name} has two {which} members, of which {member.name} is one."
                )
            if partner is None:
                waiting[key] = member
                continue
            joined.add(id_hash(name))
            yield _pair(*(member, partner) if member.label.correct else (partner, member))
    unpaired += sorted("/".join(key) for key in waiting)
    if not joined:
        raise UserError(
            f"none of {len(unpaired)} pairs has both members; skips.jsonl of the shards says why."
        )


def with_inferred_prompts(pairs: Iterable[Pair], unlabelled: Counter[str]) -> Iterator[Pair]:
    """Pairs with a prompt: the labelled one, else the tokens that both members begin with.

    Args:
        pairs: any pairs.
        unlabelled: counts the pairs without a labelled prompt, by task.
    """
    for pair in pairs:
        if pair.prompt is None:
            unlabelled[pair.task] += 1
            yield replace(pair, prompt=common_prefix_length(pair.correct, pair.wrong))
        else:
            yield pair


def common_prefix_length(left: np.ndarray, right: np.ndarray) -> int:
    """Number of leading tokens that two sequences share; at least one token is left in each."""
    most = max(0, min(len(left), len(right)) - 1)
    differing = np.flatnonzero(left[:most] != right[:most])
    return int(differing[0]) if len(differing) else most


def _task_names(shards: Sequence[Shard]) -> set[str]:
    return {_label(row, shard).task for shard in shards for row in shard.iterate_rows()}


def _label(row: JsonObject, shard: Shard) -> Label:
    try:
        return row_label(row, shard.folder.absolute().parent.name, shard.folder.absolute().parents[1].name)
    except (KeyError, ValueError) as error:
        raise UserError(f"{shard.folder}: {row['id']} has no benchmark label ({error}).") from error


def _members(shard: Shard) -> Iterator[_Member]:
    ends = np.cumsum(shard.lengths)
    collapsed = bool(shard.preprocessing.get("collapsed")) and unigram_identity(shard) is None
    for row, start, end in zip(shard.iterate_rows(), ends - shard.lengths, ends, strict=True):
        label = _label(row, shard)
        units = shard.units[start : end - 1]
        if collapsed and label.prompt:
            units = _without_boundary_repeat(units, label.prompt)
        name = Path(row.get("source_audio_name") or row["id"]).stem
        yield _Member(label, name, row.get("transcript") or "", units)


def _without_boundary_repeat(units: np.ndarray, prompt: int) -> np.ndarray:
    """Collapsed units without the repeated unit where a prompt and a separately encoded ending were joined."""
    if prompt < len(units) and units[prompt - 1] == units[prompt]:
        return np.delete(units, prompt)
    return units


def _pair(correct: _Member, wrong: _Member) -> Pair:
    label = correct.label
    differing = [name for name in _COMMON_LABELS if getattr(label, name) != getattr(wrong.label, name)]
    if differing:
        raise UserError(
            f"{label.task}/{label.pair_id}: {correct.name} and {wrong.name} differ in {differing[0]}, which "
            "the members of a pair share."
        )
    contrast, source = _contrast(correct, wrong)
    return Pair(
        label.task,
        label.group_id,
        label.pair_id,
        correct.units,
        wrong.units,
        voice=label.voice,
        phenomenon=label.phenomenon,
        condition=label.condition,
        frequency=label.frequency,
        prompt=label.prompt,
        contrast=contrast,
        contrast_source=source,
        template=label.template,
        name_correct=correct.name,
        name_wrong=wrong.name,
    )


def _contrast(correct: _Member, wrong: _Member) -> tuple[str, ContrastSource]:
    """What differs between two members: as labelled, else by their transcripts, else by their units."""
    if correct.label.contrast:
        return correct.label.contrast, "label"
    if correct.text and wrong.text:
        return contrast_of_texts(correct.text, wrong.text), "text"
    return contrast_of_units(correct.units, wrong.units), "units"
