"""Benchmark items and the labels of their recordings: pairs of which one member is known to be the better."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
    in other conditions. They do not count as further items, so intervals resample whole groups. Other keys of `extra`
    are ignored.
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
