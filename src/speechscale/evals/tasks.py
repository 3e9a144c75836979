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


def read_pairs(shards: Sequence[Shard]) -> tuple[list[Pair], list[str]]:
    """Join members on (task, condition, item); also names the items of which a member was skipped.

    Raises:
        UserError: an utterance without labels, a member twice, or no whole pair at all; the sentence names it.
    """
    members: dict[tuple[str, str, str], dict[str, tuple[Label, str, np.ndarray]]] = {}
    for shard in shards:
        for row, units in zip(shard.rows(), shard.samples(), strict=True):
            label = _label(row, shard)
            found = members.setdefault((label.task, label.condition, label.item), {})
            if label.member in found:
                raise UserError(f"{row['id']}: {label.task}/{label.item} has two {label.member} members.")
            found[label.member] = (label, row["speaker"] or "", units)
    whole = {key: found for key, found in members.items() if found.keys() == {"correct", "wrong"}}
    halves = ["/".join(key) for key in members.keys() - whole.keys()]
    if not whole:
        raise UserError(f"none of {len(halves)} items has both members; skips.jsonl of the shards says why.")
    return [_pair(found) for found in whole.values()], sorted(halves)


def _label(row: dict, shard: Shard) -> Label:
    try:
        return Label.model_validate(row["extra"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{shard.folder}: {row['id']} has no benchmark label ({error}).") from error


def _pair(members: dict[str, tuple[Label, str, np.ndarray]]) -> Pair:
    label, voice, correct = members["correct"]
    return Pair(label.task, label.condition, label.item, label.group, voice, correct, members["wrong"][2])
