"""Benchmark items: pairs of which one member is known to be the better, with every label explicit."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Item(BaseModel):
    """Two members, one of them right. `phonemes`: the members are phoneme mnemonics instead of spelling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    id: str
    group: str  # phenomenon; for StoryCloze what the wrong ending breaks
    correct: str
    wrong: str
    phonemes: bool = False
    note: str = ""  # what was exchanged, for a reader


class Label(BaseModel):
    """What an utterance of a benchmark is: it travels in `Utterance.extra` and in the shard's rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    item: str
    group: str
    condition: str  # "seen": a voice of training; "unseen": a voice never heard in training
    member: str  # "correct" or "wrong"
