"""Text as tokens: what the utterances of shards say, character by character, and which of them to keep.

A character is a byte of its UTF-8 form, which in English is a letter: a vocabulary that needs no learning, knows every
script and leaves out nothing. Shards of text hold the utterances of the shards of speech they were made from, with the
seconds of audio, so that a loss per second compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.records.revisions import STAGE_REVISIONS, revisions_of
from speechscale.records.seal import sha256_json
from speechscale.records.shards import (
    Sample,
    Shard,
    Skip,
    is_written,
    open_shards,
    vocabulary_of,
    write_shard,
)

CHARACTERS = 256  # without EOS and PAD
TEXT_VOCABULARY = vocabulary_of(CHARACTERS)["vocab_size"]
# Where shards of speech name their encoder and their code book, shards of text say that they are text. So a model of
# the one is told from a model of the other wherever the two are compared.
_ENCODING = {
    "unit_extractor": {"name": "utf-8"},
    "kmeans": {"name": "utf-8", "sha256": "utf-8"},
    "collapsed": False,
}

_Select = Callable[[Shard], Iterator[Sample | Skip]]


def write_text(source: Path, out: Path) -> None:
    """What the utterances of shards say, one shard of text for each of theirs that does not stand yet.

    Every voice reads the same words, so of the pairs of a benchmark's group the first is kept.

    Raises:
        UserError: no transcripts there, or a shard that stands was made from something else.
    """
    shards = open_shards(source)
    if not any(row.get("transcript") for shard in shards for row in shard.rows()):
        raise UserError(f"{source}: no transcripts in these shards; encode a manifest that has them.")
    first = _first_pairs(shards)
    changes = {**_ENCODING, **vocabulary_of(CHARACTERS), "revisions": revisions_of("text tokens")}
    _write(shards, out, lambda shard: _texts(shard, first), changes)


def write_subset(source: Path, out: Path, dataset: str) -> None:
    """The utterances of one dataset among those of shards, one shard for each of theirs that does not stand yet.

    Raises:
        UserError: there are none, or a shard that stands was made from something else.
    """
    shards = open_shards(source)
    found = sorted({row["dataset"] for shard in shards for row in shard.rows()})
    if dataset not in found:
        raise UserError(f"{source}: no utterance of {dataset!r} here; found {', '.join(found)}.")
    selected = {"dataset": dataset, "revision": STAGE_REVISIONS["subset"]}
    _write(shards, out, lambda shard: _of(shard, dataset), {"selected": selected})


def characters(text: str) -> np.ndarray:
    """int16 [bytes]"""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int16)


def _write(shards: list[Shard], out: Path, select: _Select, changes: Mapping[str, Any]) -> None:
    for shard in shards:
        identity = {"name": shard.folder.name, "sha256": sha256_json(shard.meta.checksums)}
        preprocessing = {**shard.preprocessing, **changes, "source_shard": identity}
        folder = out / shard.folder.name
        if not is_written(folder, preprocessing):
            outcomes = list(select(shard))
            samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
            skips = [outcome for outcome in outcomes if isinstance(outcome, Skip)]
            write_shard(folder, samples, skips, preprocessing)


def _texts(shard: Shard, first: Mapping[tuple[str, str], str]) -> Iterator[Sample | Skip]:
    yield from _skipped(shard)
    for row in shard.rows():
        label = row.get("extra") or {}
        group = str(label.get("task")), str(label.get("group_id"))
        if group in first and first[group] != label["pair_id"]:
            continue
        text = row.get("transcript")
        if not text or row.get("phonemes"):
            yield Skip(row["id"], "no spelling", "only how it sounds is known, so there is no text")
            continue
        yield Sample(row["id"], np.append(characters(text), CHARACTERS), row.get("seconds"), _kept(row))


def _of(shard: Shard, dataset: str) -> Iterator[Sample | Skip]:
    durations = shard.sample_durations() or repeat(None)
    for row, units, frames in zip(shard.rows(), shard.samples(), durations, strict=False):
        if row["dataset"] == dataset:
            yield Sample(row["id"], units, row.get("seconds"), _kept(row), frames)


def _first_pairs(shards: list[Shard]) -> dict[tuple[str, str], str]:
    """The first pair of every group of a benchmark, by task and group."""
    first: dict[tuple[str, str], str] = {}
    for shard in shards:
        for row in shard.rows():
            label = row.get("extra") or {}
            if {"task", "group_id", "pair_id"} <= label.keys():
                first.setdefault((label["task"], label["group_id"]), label["pair_id"])
    return first


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def _skipped(shard: Shard) -> Iterator[Skip]:
    for row in shard.skips():
        yield Skip(row["id"], row["reason"], row["detail"])
