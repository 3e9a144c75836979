"""Benchmark items and the labels of their recordings: pairs of which one member is known to be the better."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from speechscale.records.json_objects import JsonObject

SWUGGY, SBLIMP, SSTORYCLOZE, TSTORYCLOZE, SALMON = (
    "swuggy", "sblimp", "sstorycloze", "tstorycloze", "salmon"
)  # fmt: skip

# Letters in the names of folders that hold a task: sStoryCloze, ms_sSC, swuggy_inter, topic_story_cloze, …
_FOLDER_PATTERNS = {
    TSTORYCLOZE: re.compile(r"tstory|topicstory|tsc"),
    SSTORYCLOZE: re.compile(r"sstory|spokenstory|ssc"),
    SWUGGY: re.compile(r"swuggy"),
    SBLIMP: re.compile(r"sblimp"),
    SALMON: re.compile(r"salmon"),
}
_CORRECT, _INCORRECT = "_correct", "_incorrect"  # endings of ids in shards of the study's released code


class Item(BaseModel):
    """A pair of texts made from the story world, of which one is correct."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    id: str
    phenomenon: str  # for StoryCloze what the wrong ending breaks
    correct: str
    wrong: str
    phonemes: bool = False  # the texts are phoneme mnemonics, not spelling
    contrast: str = ""  # as in `Label`
    template: str = ""
    note: str = ""  # what was exchanged, for a reader


class Label(BaseModel):
    """The place of an utterance in a benchmark; it travels in `Utterance.extra` and in the rows of shards.

    A group is one item: one word, one sentence pair, one story. The pairs of a group are repetitions by other voices or
    in other conditions. They do not count as further items, so intervals resample whole groups, and groups that share a
    contrast or a template together. Other keys of `extra` are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str = Field(
        min_length=1
    )  # swuggy, sblimp, sstorycloze, tstorycloze, …, or one of the story world's
    group_id: str = Field(min_length=1)  # unique in the task
    pair_id: str = Field(
        min_length=1
    )  # one pair of recordings: group x voice x condition; unique in the task
    correct: bool
    voice: str = ""
    phenomenon: str = ""  # macro averages are taken over it; for StoryCloze what the wrong ending breaks
    condition: str = ""  # story world: "seen" or "unseen" voices; elsewhere a split, or a part of SALMon
    contrast: str = ""  # the unordered pair of what differs between the members: two words, sounds or endings
    template: str = ""  # what surrounds it: a frame of words, a word, the beginning of a story
    frequency: float | None = Field(
        default=None, ge=0, allow_inf_nan=False
    )  # of a word of sWUGGY in LibriSpeech
    prompt: int | None = Field(default=None, ge=0)  # leading units that both members share; None: not known
    prompt_text: str | None = None


def task_from_names(*names: str) -> str | None:
    """The task that the names of folders state; the first name that states one counts."""
    for name in names:
        letters = re.sub(r"[^a-z]", "", name.lower())
        for task, pattern in _FOLDER_PATTERNS.items():
            if pattern.search(letters):
                return task
    return None


def slm_group_and_pair(row: Mapping[str, object]) -> tuple[str, str]:
    """Our group and pair of a row of the study's evaluation, which are its pair and its group; empty where unknown."""
    slm_group = id_of(row, "group_id")
    return id_of(row, "pair_id") or slm_group, slm_group


def id_of(row: Mapping[str, object], key: str) -> str:
    """An id as text, for it may be a number; empty where there is none."""
    return "" if row.get(key) is None else str(row[key])


def row_label(row: JsonObject, *folders: str) -> Label:
    """The label of a row of a shard: its `extra`, or fields of the row itself, as in the study's released code.

    There `group_id` is one comparison, `pair_id` joins the comparisons of all voices, and an id that ends in `_correct`
    or `_incorrect` replaces both and `correct` (slm_scaling, `evaluate.py`). The task is that of the row, else the one
    that its `dataset` or the folders of the shard name, else its `dataset`.

    Args:
        row: of `samples.jsonl`.
        folders: names of the folders around the shard, the innermost first.

    Raises:
        ValueError: no label, or an invalid one.
    """
    sample = id_of(row, "id")
    stem = next((sample.removesuffix(end) for end in (_CORRECT, _INCORRECT) if sample.endswith(end)), "")
    extra = row.get("extra")
    if (extra and "task" in extra) or not (stem or id_of(row, "group_id")):
        return Label.model_validate(row["extra"])
    labels = {"group_id": stem, "correct": sample.endswith(_CORRECT)} | row
    group, pair = slm_group_and_pair(labels)
    dataset = id_of(row, "dataset")
    texts = ("phenomenon", "condition", "contrast", "template")
    label: JsonObject = {name: id_of(row, name) for name in texts if id_of(row, name)}
    return Label.model_validate(
        label
        | {
            "task": id_of(row, "task") or task_from_names(dataset, *folders) or dataset or folders[0],
            "group_id": group,
            "pair_id": pair,
            "correct": labels["correct"],
            "voice": id_of(row, "voice"),
            "frequency": row.get("frequency"),
        }
    )
