"""JSON Lines, one recording per line, labelled by fields with our own names or those of the study's evaluation.

Both have `group_id` and `pair_id`, with opposite meanings. Ours: a group is one item, and its pairs are repetitions by
other voices. The study's (slm_scaling, `evaluate.py`): a group is one comparison, and a pair joins the groups of all
voices.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speechscale.datasets.benchmarks.members import (
    BenchmarkSource,
    Member,
    MemberFault,
    PairKey,
    make_member,
)
from speechscale.datasets.corpora.jsonlines import utterance_fields
from speechscale.datasets.reading import read_json_lines
from speechscale.errors import UserError
from speechscale.records.items import Label, id_of, slm_group_and_pair, task_from_names
from speechscale.records.manifest import id_hash

ENDINGS = (".jsonl", ".jsonl.gz")
_ID_KEYS = ("task", "group_id", "pair_id")

Nesting = Literal["jsonl", "slm"]  # the layout in which groups hold pairs, or pairs hold groups


def matches(path: Path) -> bool:
    """Whether the path is a file of JSON Lines in which no pair holds several groups."""
    return path.is_file() and path.name.endswith(ENDINGS) and detect_nesting(path) != "slm"


def matches_slm_scaling(path: Path) -> bool:
    """Whether the path is a file of JSON Lines in which pairs hold several groups, as in the study's evaluation."""
    return path.is_file() and path.name.endswith(ENDINGS) and detect_nesting(path) == "slm"


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read lines with the fields of `Label` and of a manifest.

    Raises:
        UserError: the file cannot be read, or its ids are nested as in the study's evaluation.
    """
    if detect_nesting(source.path) == "slm":
        raise UserError(
            f"{source.path}: a group_id never has two pair_id here, but a pair_id has several group_id, as in the "
            "study's own evaluation; say --layout slm."
        )
    yield from _read_lines(source, group_and_pair)


def read_slm_scaling(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read lines with the fields of the study's evaluation.

    Raises:
        UserError: the file cannot be read, or its ids are not nested as in the study's evaluation.
    """
    if detect_nesting(source.path) == "jsonl":
        raise UserError(
            f"{source.path}: a pair_id never has two group_id here, but a group_id has several pair_id; "
            "say --layout jsonl."
        )
    yield from _read_lines(source, slm_group_and_pair)


def group_and_pair(line: Mapping[str, Any]) -> tuple[str, str]:
    """Group and pair of a line, empty where it has none; without an id, the pair is that of voice and condition."""
    group = id_of(line, "group_id") or id_of(line, "pair_id")
    voice = id_of(line, "voice") or id_of(line, "speaker")
    derived = "/".join(part for part in (group, voice, id_of(line, "condition")) if part)
    return group, id_of(line, "pair_id") or derived


def detect_nesting(path: Path) -> Nesting | None:
    """Whether groups hold several pairs, or pairs several groups; None where neither does.

    Raises:
        UserError: the file cannot be read, or both hold several of the other.
    """
    hashes = array("Q")  # three per line: of its group, of its pair, of both
    for _, line in read_json_lines(path):
        task, group, pair = (id_of(line, key) if isinstance(line, dict) else "" for key in _ID_KEYS)
        if group and pair:
            hashes.extend(
                id_hash(json.dumps([task, *ids])) for ids in ((0, group), (1, pair), (2, group, pair))
            )
    groups, pairs, both = (
        len(np.unique(column)) for column in np.array(hashes, dtype=np.uint64).reshape(-1, 3).T
    )
    if both > max(groups, pairs):
        raise UserError(
            f"{path}: a group_id has several pair_id, and a pair_id several group_id; wanted each pair_id in one "
            "group_id, or, as the study has it, the other way round."
        )
    if groups == pairs:
        return None
    return "jsonl" if groups < pairs else "slm"


def _read_lines(
    source: BenchmarkSource, ids_of: Callable[[Mapping[str, Any]], tuple[str, str]]
) -> Iterator[Member | MemberFault]:
    for where, line in read_json_lines(source.path):
        if isinstance(line, str):
            yield MemberFault(where, "bad entry", f"{line}; correct or remove the line")
        else:
            yield _member(source, where, line, *ids_of(line))


def _member(
    source: BenchmarkSource, where: str, line: Mapping[str, Any], group: str, pair_id: str
) -> Member | MemberFault:
    path = source.path.absolute()
    task = id_of(line, "task") or source.task or task_from_names(path.name, path.parent.name)
    if not task:
        raise UserError(f"{path}: {where}: no task; give every line one, or say --task.")
    if not (group and pair_id):
        return MemberFault(where, "bad entry", "no group_id; give every line one")
    pair: PairKey = (task, pair_id)
    correct = line.get("correct")
    if correct not in (0, 1):  # True and False are 1 and 0
        detail = f"correct is {correct!r}, wanted true or false; correct it"
        return MemberFault(where, "bad label", detail, pair)
    fields = utterance_fields(line, task)
    audio, extra = fields.pop("audio", None), fields.pop("extra", {})
    if not isinstance(extra, dict):
        return MemberFault(where, "bad entry", f"extra is {extra!r}, wanted an object; correct it", pair)
    if not isinstance(audio, str) or not audio:
        return MemberFault(
            where, "no audio", f"audio is {audio!r}, wanted the file of the recording; name it", pair
        )
    label = {key: value for key, value in extra.items() if key in Label.model_fields and value is not None}
    label |= {"task": task, "group_id": group, "pair_id": pair_id, "correct": bool(correct)}
    label.setdefault("voice", fields.get("speaker") or "")
    for key in ("voice", "phenomenon", "condition"):
        if isinstance(label.get(key), int):
            label[key] = str(label[key])
    return make_member(source, audio, where, label, **fields | {"split": line.get("split") or "test"})
