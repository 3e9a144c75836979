"""Manifest to shards: hear, encode, name, collapse, seal; each shard by itself, so that work can stop anywhere.

A shard is the unit of work. It is made from a contiguous stretch of the manifest by one worker, and either stands
sealed or does not stand at all; a second run makes what is missing. Only a fault of an utterance itself becomes a skip.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import SAMPLE_RATE, ManifestSlice, Utterance, cut_manifest
from speechscale.records.revisions import STAGE_REVISIONS, revisions_of
from speechscale.records.seal import sha256_file, sha256_json
from speechscale.records.shards import Sample, Skip, is_written, vocabulary_of, write_shard
from speechscale.units.collapse import close, collapse
from speechscale.units.encoders import Encoder, load_encoder
from speechscale.units.kmeans import CodeBook, code_book_identity, load_code_book
from speechscale.units.mel import MelEncoder

LoadWaveforms = Callable[[Sequence[Utterance], Path], Iterator[np.ndarray | SampleFault]]


@dataclass(frozen=True)
class ShardTask:
    """Everything a worker needs for one shard; small, and travels between machines."""

    folder: Path
    stretch: ManifestSlice
    root: Path  # what audio paths are relative to
    code_book: Path
    preprocessing: dict[str, Any]
    load_waveforms: LoadWaveforms
    computing: ComputeOptions = DEFAULT_OPTIONS
    gpu: bool = False  # to be made on a GPU, where there is one


def plan_shards(
    manifest: Path,
    root: Path,
    code_book: Path,
    out: Path,
    load_waveforms: LoadWaveforms,
    *,
    seconds: float,
    split: str | None = None,
    computing: ComputeOptions = DEFAULT_OPTIONS,
) -> list[ShardTask]:
    """Cut a manifest into shards of about `seconds` of audio each, in order; `split`: only that part of it.

    Raises:
        UserError: the manifest is broken, nothing is listed in it, or the code book is not one.
    """
    manifest, root, code_book, out = (
        path.absolute() for path in (manifest, root, code_book, out)
    )  # for workers
    stretches = cut_manifest(manifest, seconds, split)
    if not stretches:
        part = "" if split is None else f" of the split {split!r}"
        raise UserError(f"{manifest}: lists no utterances{part}, so there is nothing to encode.")
    book = load_code_book(code_book)
    shared = {
        "manifest_sha256": sha256_file(manifest),
        "plan_format_version": 2,  # 1 was the released code's: longest first; here neighbours stay together
        "plan_num_shards": len(stretches),
        "assignment_sha256": sha256_json([[piece.start, piece.end, piece.count] for piece in stretches]),
        "precision": computing.precision,
        "revisions": revisions_of("encode"),
        **encoding(book, code_book),
    }
    gpu = computing.device != "cpu" and book.encoder["name"] != MelEncoder.name
    return [
        ShardTask(
            folder=out / f"shard-{number:05d}",
            stretch=piece,
            root=root,
            code_book=code_book,
            preprocessing={**shared, **_slice_fields(piece)},
            load_waveforms=load_waveforms,
            computing=computing,
            gpu=gpu,
        )
        for number, piece in enumerate(stretches)
    ]


def _slice_fields(part: ManifestSlice) -> dict[str, int]:
    """The fields of `meta.json` in which the shards of one plan may differ."""
    speech = {"speech_revision": STAGE_REVISIONS["speech"]} if part.synthetic else {}
    return {"num_assigned_records": part.count, **speech}


def encoding(book: CodeBook, path: Path) -> dict[str, Any]:
    """How units are made, in the names of the released `meta.json`; what concerns HuBERT is null for log-mel."""
    hubert = book.encoder if book.encoder["name"] == "hubert" else {}
    return {
        "sample_rate": SAMPLE_RATE,
        "unit_extractor": book.encoder,
        "collapsed": True,
        "hubert_model": hubert.get("model"),
        "hubert_revision": hubert.get("revision"),
        "hubert_layer": hubert.get("layer"),
        "hubert_normalize": hubert.get("normalize"),
        "kmeans": code_book_identity(path),
        **vocabulary_of(len(book.centroids)),
    }


def is_encoded(task: ShardTask) -> bool:
    """Whether the shard stands already.

    Raises:
        UserError: it stands, but was made from something else.
    """
    return is_written(task.folder, task.preprocessing)


def encode_shard(task: ShardTask) -> tuple[int, int]:
    """Make one shard; returns how many utterances were encoded and how many skipped.

    Raises:
        UserError: the code book belongs to another encoder, or the place for the shard refuses it.
    """
    book = load_code_book(task.code_book)
    encoder = _encoder(book.encoder, task.computing)
    try:
        book.check_frames_of(encoder)
    except UserError as error:
        raise UserError(f"{task.code_book}: {error}") from error
    samples: list[Sample] = []
    skips: list[Skip] = []
    for heard in _handfuls(task, encoder.lookahead):
        waveforms = [waveform for _, waveform in heard if not isinstance(waveform, SampleFault)]
        frames = iter(encoder.encode(waveforms))
        for utterance, waveform in heard:
            outcome = (
                waveform
                if isinstance(waveform, SampleFault)
                else _sample(utterance, waveform, next(frames), book)
            )
            if isinstance(outcome, SampleFault):
                skips.append(Skip(utterance.id, outcome.reason, outcome.detail))
            else:
                samples.append(outcome)
    try:
        write_shard(task.folder, samples, skips, task.preprocessing)
    except UserError:
        if not is_encoded(task):  # else a worker that was thought lost has made it meanwhile
            raise
    return len(samples), len(skips)


_loaded: dict[str, Encoder] = {}  # of this process: the one encoder that its last shard was made with


def _encoder(identity: Mapping[str, Any], computing: ComputeOptions) -> Encoder:
    key = json.dumps([identity, asdict(computing)], sort_keys=True)
    if key not in _loaded:
        _loaded.clear()  # first: two models may be one too many
        _loaded[key] = load_encoder(identity, computing)
    return _loaded[key]


def _handfuls(task: ShardTask, seconds: float) -> Iterator[list[tuple[Utterance, np.ndarray | SampleFault]]]:
    """The utterances of a shard with what was heard, so many seconds at a time (at least one utterance)."""
    handful: list[tuple[Utterance, np.ndarray | SampleFault]] = []
    length = 0
    utterances = list(task.stretch.utterances())
    for utterance, waveform in zip(utterances, task.load_waveforms(utterances, task.root), strict=True):
        handful.append((utterance, waveform))
        length += 0 if isinstance(waveform, SampleFault) else len(waveform)
        if length >= seconds * SAMPLE_RATE:
            yield handful
            handful, length = [], 0
    if handful:
        yield handful


def _sample(
    utterance: Utterance, waveform: np.ndarray, frames: np.ndarray, book: CodeBook
) -> Sample | SampleFault:
    if not len(frames):
        return SampleFault("too short", f"{len(waveform)} samples at {SAMPLE_RATE} Hz give no frame")
    units, durations = close(*collapse(book.assign(frames)), len(book.centroids))
    return Sample(utterance.id, units, len(waveform) / SAMPLE_RATE, _row(utterance), durations)


def _row(utterance: Utterance) -> dict[str, Any]:
    """What the released `samples.jsonl` keeps of an utterance; beyond it, where in a file it lies, and our labels."""
    beyond = {
        "source_row": utterance.row,
        "source_column": utterance.column,
        "source_channel": utterance.channel,
        "extra": utterance.extra or None,
        # so that nobody takes the transcript for a spelling
        "phonemes": (utterance.synthesis and utterance.synthesis.phonemes) or None,
    }
    row = {
        "dataset": utterance.dataset,
        "split": utterance.split,
        "speaker": utterance.speaker,
        "source_audio": utterance.audio,
        "source_audio_name": Path(utterance.audio).name if utterance.audio else None,
        "source_offset": utterance.offset,
        "source_duration": utterance.duration,
        "source_revision": utterance.source_revision,
        "transcript": utterance.transcript,
    }
    return {**row, **{name: value for name, value in beyond.items() if value is not None}}
