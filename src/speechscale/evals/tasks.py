"""Benchmark pairs from the labels that travel with every utterance; file names and row order mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.shards import Shard


@dataclass(frozen=True)
class Pair:
    """Both members of an item in one condition; units end in EOS."""

    task: str
    condition: str
    item: str
    group: str
    voice: str
    correct: np.ndarray
    wrong: np.ndarray


def read_pairs(shards: Sequence[Shard]) -> list[Pair]:
    """Join members on (task, condition, item).

    Raises:
        UserError: an utterance without labels, a member twice, or an item without its twin; the sentence names it.
    """
    members: dict[tuple[str, str, str], dict[str, tuple[Label, str, np.ndarray]]] = {}
    for shard in shards:
        for row, units in zip(shard.rows(), shard.samples(), strict=True):
            label = _label(row, shard)
            found = members.setdefault((label.task, label.condition, label.item), {})
            if label.member in found:
                raise UserError(f"{row['id']}: {label.task}/{label.item} has two {label.member} members.")
            found[label.member] = (label, row["speaker"] or "", units)
    return [_pair(key, found) for key, found in members.items()]


def _label(row: dict, shard: Shard) -> Label:
    try:
        return Label.model_validate(row["extra"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{shard.folder}: {row['id']} has no benchmark label ({error}).") from error


def _pair(key: tuple[str, str, str], members: dict[str, tuple[Label, str, np.ndarray]]) -> Pair:
    missing = {"correct", "wrong"} - members.keys()
    if missing:
        raise UserError(
            f"{'/'.join(key)}: the {missing.pop()} member is missing; see skips.jsonl of its shard."
        )
    label, voice, correct = members["correct"]
    return Pair(label.task, label.condition, label.item, label.group, voice, correct, members["wrong"][2])
