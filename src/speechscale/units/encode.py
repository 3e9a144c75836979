"""Manifest to shards: hear, encode, name, collapse, seal; each shard by itself, so that work can stop anywhere.

A shard is the unit of work. It is made from a contiguous stretch of the manifest by one worker, and either stands
sealed or does not stand at all; a second run makes what is missing. Only a fault of an utterance itself becomes a skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import SAMPLE_RATE, Utterance
from speechscale.records.seal import differing_fields, sha256_json
from speechscale.records.shards import Sample, Skip, open_shard, write_shard
from speechscale.units.collapse import close, collapse
from speechscale.units.kmeans import (
    CodeBook,
    KMeansSpec,
    code_book_identity,
    encoder_identity,
    load_code_book,
    save_code_book,
    train_kmeans,
)
from speechscale.units.mel import MelEncoder, MelSpec

Hear = Callable[[Sequence[Utterance], Path], Iterator[np.ndarray | SampleFault]]


@dataclass(frozen=True)
class ShardTask:
    """Everything a worker needs for one shard; travels between processes."""

    folder: Path
    utterances: tuple[Utterance, ...]
    root: Path  # what audio paths are relative to
    code_book: Path
    preprocessing: dict[str, Any]
    hear: Hear


def plan_shards(
    utterances: Sequence[Utterance], root: Path, code_book: Path, out: Path, per_shard: int, hear: Hear
) -> list[ShardTask]:
    """Cut a manifest into shards of at most `per_shard` utterances, in order."""
    pieces = [tuple(utterances[i : i + per_shard]) for i in range(0, len(utterances), per_shard)]
    rows = [utterance.model_dump(mode="json", exclude_defaults=True) for utterance in utterances]
    shared = {
        "manifest_sha256": sha256_json(rows),
        "plan_format_version": 1,
        "plan_num_shards": len(pieces),
        "assignment_sha256": sha256_json([[utterance.id for utterance in piece] for piece in pieces]),
        **encoding(load_code_book(code_book), code_book),
    }
    return [
        ShardTask(
            folder=out / f"shard-{number:05d}",
            utterances=piece,
            root=root,
            code_book=code_book,
            preprocessing={**shared, "num_assigned_records": len(piece)},
            hear=hear,
        )
        for number, piece in enumerate(pieces)
    ]


def encoding(book: CodeBook, path: Path) -> dict[str, Any]:
    """How units are made, in the names of the released `meta.json`; what concerns HuBERT is null for log-mel."""
    clusters = len(book.centroids)
    return {
        "sample_rate": SAMPLE_RATE,
        "unit_extractor": book.encoder,
        "collapsed": True,
        "hubert_model": None,
        "hubert_revision": None,
        "hubert_layer": None,
        "hubert_normalize": None,
        "kmeans": code_book_identity(path),
        "vocab_size": clusters + 2,
        "eos_token": clusters,
        "pad_token": clusters + 1,
    }


def is_encoded(task: ShardTask) -> bool:
    """Whether the shard stands already.

    Raises:
        UserError: it stands, but was made from something else.
    """
    if not task.folder.exists():
        return False
    differing = differing_fields(open_shard(task.folder).meta["preprocessing"], task.preprocessing)
    if differing:
        raise UserError(
            f"{task.folder}: was encoded otherwise: {'; '.join(differing)}. Choose another output folder."
        )
    return True


def encode_shard(task: ShardTask) -> tuple[int, int]:
    """Make one shard; returns how many utterances were encoded and how many skipped."""
    book = load_code_book(task.code_book)
    encoder = encoder_for(book)
    samples: list[Sample] = []
    skips: list[Skip] = []
    heard = task.hear(task.utterances, task.root)
    for utterance, waveform in zip(task.utterances, heard, strict=True):
        if isinstance(waveform, SampleFault):
            skips.append(Skip(utterance.id, waveform.reason, waveform.detail))
        elif len(waveform) == 0:
            skips.append(Skip(utterance.id, "empty", "no samples"))
        else:
            units = close(collapse(book.assign(encoder.encode(waveform))), len(book.centroids))
            samples.append(Sample(utterance.id, units, len(waveform) / SAMPLE_RATE, _row(utterance)))
    write_shard(task.folder, samples, skips, task.preprocessing)
    return len(samples), len(skips)


@dataclass(frozen=True)
class CodeBookTask:
    """Everything a worker needs to learn a code book."""

    utterances: tuple[Utterance, ...]
    root: Path  # what audio paths are relative to
    mel: MelSpec
    kmeans: KMeansSpec
    path: Path
    hear: Hear


def make_code_book(task: CodeBookTask) -> tuple[int, int]:
    """Train k-means on a seeded sample of utterances; returns the frames used and the utterances that were faulty.

    Raises:
        UserError: none of the sampled utterances could be heard.
    """
    spec = task.kmeans
    chosen = Random(spec.seed).sample(task.utterances, min(spec.utterances, len(task.utterances)))
    encoder = MelEncoder(task.mel)
    heard = [waveform for waveform in task.hear(chosen, task.root) if not isinstance(waveform, SampleFault)]
    frames = [encoder.encode(waveform) for waveform in heard if len(waveform)]
    if not frames:
        raise UserError(f"none of the {len(chosen)} utterances sampled for k-means could be heard.")
    sample = np.concatenate(frames)
    save_code_book(train_kmeans(sample, spec, encoder_identity(task.mel)), task.path)
    return len(sample), len(chosen) - len(frames)


def encoder_for(book: CodeBook) -> MelEncoder:
    """The encoder that a code book was trained for.

    Raises:
        UserError: the code book is of an encoder unknown here.
    """
    settings = dict(book.encoder)
    if settings.pop("name", None) != MelEncoder.name:
        raise UserError(
            f"the code book belongs to the encoder {book.encoder.get('name')!r}; known here: mel."
        )
    encoder = MelEncoder(MelSpec(**settings))
    if encoder_identity(encoder.spec) != book.encoder or encoder.dimension != book.centroids.shape[1]:
        raise UserError(
            f"the code book has {book.centroids.shape[1]} dimensions, its encoder {encoder.dimension}."
        )
    return encoder


def _row(utterance: Utterance) -> dict[str, Any]:
    """What the released `samples.jsonl` keeps of an utterance, and our labels in `extra`."""
    row = {
        "dataset": utterance.dataset,
        "split": utterance.split,
        "speaker": utterance.speaker,
        "source_audio": utterance.audio,
        "source_offset": utterance.offset,
        "source_revision": utterance.source_revision,
        "transcript": utterance.transcript,
    }
    return {**row, **({"extra": utterance.extra} if utterance.extra else {})}
