"""Benchmark pairs from the labels that travel with every utterance; file names and row order mean nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import id_hash
from speechscale.records.shards import Shard, unigram_identity

_SHARED = ("group_id", "voice", "phenomenon", "condition", "prompt")  # labels that twins have in common


@dataclass(frozen=True)
class Pair:
    """Both members of a pair, as integer tokens without BOS and EOS, which the scorer adds; see `Label`."""

    task: str
    group_id: str
    pair_id: str
    correct: np.ndarray
    wrong: np.ndarray
    voice: str = ""
    phenomenon: str = ""
    condition: str = ""
    frequency: float | None = None
    prompt: int | None = None  # leading tokens that both members share; None: not known
    name_correct: str = ""  # of the recording: the stem of its file, or its id
    name_wrong: str = ""


@dataclass(frozen=True)
class _Member:
    label: Label
    name: str
    units: np.ndarray


def read_pairs(shards: Sequence[Shard], unpaired: list[str]) -> Iterator[Pair]:
    """Join members on (task, pair_id), as they come; what waits for its twin is all that is held of them.

    Args:
        halves: gets the pairs of which a member is missing, when all shards are read.

    Raises:
        UserError: an utterance without labels, a member twice, twins with other labels, or no whole pair at all; the
            sentence names it.
    """
    waiting: dict[tuple[str, str], _Member] = {}
    joined: set[int] = set()
    for shard in shards:
        for member in _members(shard):
            key = member.label.task, member.label.pair_id
            name = "/".join(key)
            twin = waiting.pop(key, None)
            if id_hash(name) in joined or (twin and twin.label.correct == member.label.correct):
                which = "correct" if member.label.correct else "wrong"
                raise UserError(
                    f"{shard.folder}: {name} has two {which} members, of which {member.name} is one."
                )
            if twin is None:
                waiting[key] = member
                continue
            joined.add(id_hash(name))
            yield _pair(*(member, twin) if member.label.correct else (twin, member))
    unpaired += sorted("/".join(key) for key in waiting)
    if not joined:
        raise UserError(
            f"none of {len(unpaired)} pairs has both members; skips.jsonl of the shards says why."
        )


def with_prompts(pairs: Iterable[Pair], unlabelled: Counter[str]) -> Iterator[Pair]:
    """Where no label says how long the prompt is, it is what both members begin with.

    Args:
        unlabelled: counts such pairs, by task.
    """
    for pair in pairs:
        if pair.prompt is None:
            unlabelled[pair.task] += 1
            yield replace(pair, prompt=common_start(pair.correct, pair.wrong))
        else:
            yield pair


def common_start(left: np.ndarray, right: np.ndarray) -> int:
    """Leading tokens that both have; one is left for each to go on with."""
    most = max(0, min(len(left), len(right)) - 1)
    differing = np.flatnonzero(left[:most] != right[:most])
    return int(differing[0]) if len(differing) else most


def tasks_of(shards: Sequence[Shard]) -> set[str]:
    """The tasks that the labels name.

    Raises:
        UserError: an utterance without labels, named.
    """
    return {_label(row, shard).task for shard in shards for row in shard.iterate_rows()}


def _label(row: Mapping[str, Any], shard: Shard) -> Label:
    try:
        return Label.model_validate(row["extra"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{shard.folder}: {row['id']} has no benchmark label ({error}).") from error


def _members(shard: Shard) -> Iterator[_Member]:
    ends = np.cumsum(shard.lengths)
    collapsed = bool(shard.preprocessing.get("collapsed")) and unigram_identity(shard) is None
    for row, start, end in zip(shard.iterate_rows(), ends - shard.lengths, ends, strict=True):
        label = _label(row, shard)
        units = shard.units[start : end - 1]
        if collapsed and label.prompt:
            units = _without_seam(units, label.prompt)
        yield _Member(label, Path(row.get("source_audio_name") or row["id"]).stem, units)


def _without_seam(units: np.ndarray, prompt: int) -> np.ndarray:
    """Collapsed units never repeat; where prompt and ending were joined they may, and the ending loses its first."""
    if prompt < len(units) and units[prompt - 1] == units[prompt]:
        return np.delete(units, prompt)
    return units


def _pair(correct: _Member, wrong: _Member) -> Pair:
    label = correct.label
    differing = [name for name in _SHARED if getattr(label, name) != getattr(wrong.label, name)]
    if differing:
        raise UserError(
            f"{label.task}/{label.pair_id}: {correct.name} and {wrong.name} differ in {differing[0]}, which "
            "the members of a pair share."
        )
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
        name_correct=correct.name,
        name_wrong=wrong.name,
    )
