"""Text as tokens: the transcripts of shards of speech, as bytes of UTF-8.

In English a byte is a letter. A vocabulary of bytes needs no training, covers every script and has no unknown tokens.
Shards of text hold the utterances of the shards of speech that they are derived from, with their seconds of audio, so
losses per second of text and speech are comparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from speechscale.errors import UserError
from speechscale.records.revisions import revisions_of
from speechscale.records.shards import Sample, Shard, Skip, open_shards, vocabulary_of
from speechscale.tokens.derived import copied_row, write_derived_shards

NUM_BYTES = 256  # without EOS and PAD
TEXT_VOCABULARY = vocabulary_of(NUM_BYTES)["vocab_size"]
# Shards of speech name their encoder and their codebook in these fields. Shards of text name UTF-8 there, so every
# comparison of encodings tells the two apart.
_ENCODING = {
    "unit_extractor": {"name": "utf-8"},
    "kmeans": {"name": "utf-8", "sha256": "utf-8"},
    "collapsed": False,
}


def write_text_shards(source: Path, out: Path) -> None:
    """Write the transcripts of shards of speech, one shard of text for each; existing shards are kept.

    In a benchmark every voice reads the same sentences: of the pairs of one group only the first is written.

    Raises:
        UserError: no transcripts in `source`, or an existing shard was made from something else.
    """
    shards = open_shards(source)
    if not any(row.get("transcript") for shard in shards for row in shard.rows()):
        raise UserError(f"{source}: no transcripts in these shards; encode a manifest that has them.")
    first_pairs = _first_pairs(shards)
    changes = {**_ENCODING, **vocabulary_of(NUM_BYTES), "revisions": revisions_of("text tokens")}
    write_derived_shards(shards, out, lambda shard: _text_samples(shard, first_pairs), changes)


def utf8_bytes(text: str) -> np.ndarray:
    """The bytes of a text; int16 [bytes]."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int16)


def _text_samples(shard: Shard, first_pairs: Mapping[tuple[str, str], str]) -> Iterator[Sample | Skip]:
    yield from shard.skips()
    for row in shard.rows():
        label = row.get("extra") or {}
        group = str(label.get("task")), str(label.get("group_id"))
        if group in first_pairs and first_pairs[group] != label["pair_id"]:
            continue
        text = row.get("transcript")
        if not text or row.get("phonemes"):
            yield Skip(row["id"], "no spelling", "only how it sounds is known, so there is no text")
            continue
        yield Sample(row["id"], np.append(utf8_bytes(text), NUM_BYTES), row.get("seconds"), copied_row(row))


def _first_pairs(shards: list[Shard]) -> dict[tuple[str, str], str]:
    """The id of the first pair of every benchmark group, by task and group."""
    first: dict[tuple[str, str], str] = {}
    for shard in shards:
        for row in shard.rows():
            label = row.get("extra") or {}
            if {"task", "group_id", "pair_id"} <= label.keys():
                first.setdefault((label["task"], label["group_id"]), label["pair_id"])
    return first
