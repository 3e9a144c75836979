"""JSON Lines, one recording a line, with every label in a field: our own names, or those of the study's evaluation.

Both have `group_id` and `pair_id`, and mean opposite things. Ours: a group is what is asked, and its pairs are
repetitions by other voices. The study's (slm_scaling, `evaluate.py`): a group is one question to the model, and a pair
joins the groups of all voices.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.datasets.benchmarks.members import Benchmark, Fault, Member, PairKey, member, task_named
from speechscale.datasets.corpora.entries import json_lines
from speechscale.datasets.corpora.jsonlines import told_by
from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import id_hash

_IDS = ("task", "group_id", "pair_id")
ENDINGS = (".jsonl", ".jsonl.gz")


def looks_like_ours(path: Path) -> bool:
    """Whether it is JSON Lines, and its groups are not the study's."""
    return path.is_file() and path.name.endswith(ENDINGS) and nesting(path) != "slm"


def looks_like_the_studys(path: Path) -> bool:
    return path.is_file() and path.name.endswith(ENDINGS) and nesting(path) == "slm"


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Lines in the fields of `Label` and of a manifest.

    Raises:
        UserError: the file cannot be opened, or its groups are not ours.
    """
    if nesting(benchmark.path) == "slm":
        raise UserError(
            f"{benchmark.path}: a group_id never has two pair_id here, but a pair_id has several group_id, as in the "
            "study's own evaluation; say --layout slm."
        )
    yield from _read(benchmark, ours)


def read_slm(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Lines in the fields of the study's evaluation.

    Raises:
        UserError: the file cannot be opened, or its groups are not the study's.
    """
    if nesting(benchmark.path) == "jsonl":
        raise UserError(
            f"{benchmark.path}: a pair_id never has two group_id here, but a group_id has several pair_id; "
            "say --layout jsonl."
        )
    yield from _read(benchmark, the_studys)


def ours(line: Mapping[str, Any]) -> tuple[str, str]:
    """Group and pair of a line, empty where there is none; a pair without an id is that of a voice and condition."""
    group = _named(line, "group_id") or _named(line, "pair_id")
    voice = _named(line, "voice") or _named(line, "speaker")
    made = "/".join(part for part in (group, voice, _named(line, "condition")) if part)
    return group, _named(line, "pair_id") or made


def the_studys(line: Mapping[str, Any]) -> tuple[str, str]:
    """Group and pair of a line of the study's, whose pair stands for our group."""
    question = _named(line, "group_id")
    return _named(line, "pair_id") or question, question


def _named(line: Mapping[str, Any], key: str) -> str:
    """An id, which may be a number; empty where there is none."""
    return "" if line.get(key) is None else str(line[key])


def nesting(path: Path) -> str | None:
    """`"jsonl"` where groups hold several pairs each, `"slm"` where pairs hold groups, None where neither does.

    Raises:
        UserError: the file cannot be opened, or both hold several of the other.
    """
    seen = array("Q")  # hashes of each line's group, pair, and both
    for _, line in json_lines(path):
        task, group, pair = (_named(line, key) if isinstance(line, dict) else "" for key in _IDS)
        if group and pair:
            seen.extend(
                id_hash(json.dumps([task, *ids])) for ids in ((0, group), (1, pair), (2, group, pair))
            )
    groups, pairs, both = (
        len(np.unique(column)) for column in np.array(seen, dtype=np.uint64).reshape(-1, 3).T
    )
    if both > max(groups, pairs):
        raise UserError(
            f"{path}: a group_id has several pair_id, and a pair_id several group_id; wanted each pair_id in one "
            "group_id, or, as the study has it, the other way round."
        )
    if groups == pairs:
        return None
    return "jsonl" if groups < pairs else "slm"


def _read(
    benchmark: Benchmark, ids_of: Callable[[Mapping[str, Any]], tuple[str, str]]
) -> Iterator[Member | Fault]:
    for where, line in json_lines(benchmark.path):
        if isinstance(line, str):
            yield Fault(where, "bad entry", f"{line}; correct or remove the line")
        else:
            yield _member(benchmark, where, line, *ids_of(line))


def _member(
    benchmark: Benchmark, where: str, line: Mapping[str, Any], group: str, name: str
) -> Member | Fault:
    path = benchmark.path.absolute()
    task = _named(line, "task") or benchmark.task or task_named(path.name, path.parent.name)
    if not task:
        raise UserError(f"{path}: {where}: no task; give every line one, or say --task.")
    if not (group and name):
        return Fault(where, "bad entry", "no group_id; give every line one")
    pair: PairKey = (task, name)
    correct = line.get("correct")
    if correct not in (0, 1):  # True and False are 1 and 0
        return Fault(where, "bad label", f"correct is {correct!r}, wanted true or false; correct it", pair)
    told = told_by(line, task)
    audio, rest = told.pop("audio", None), told.pop("extra", {})
    if not isinstance(rest, dict):
        return Fault(where, "bad entry", f"extra is {rest!r}, wanted an object; correct it", pair)
    if not isinstance(audio, str) or not audio:
        return Fault(
            where, "no audio", f"audio is {audio!r}, wanted the file of the recording; name it", pair
        )
    label = {key: value for key, value in rest.items() if key in Label.model_fields and value is not None}
    label |= {"task": task, "group_id": group, "pair_id": name, "correct": bool(correct)}
    label.setdefault("voice", told.get("speaker") or "")
    for name in ("voice", "phenomenon", "condition"):
        if isinstance(label.get(name), int):
            label[name] = str(label[name])
    return member(benchmark, audio, where, label, **told | {"split": line.get("split") or "test"})
