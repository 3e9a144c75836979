"""Encoding of speech to shards of units: load waveforms, encode, assign clusters, collapse, write.

The shard is the unit of work. One worker makes it from consecutive utterances of the manifest and writes it
completely or not at all; a second call makes the shards that are missing. Only a fault of an utterance itself becomes
a skip.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import SampleFault, UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import SAMPLE_RATE, ManifestSlice, Utterance, cut_manifest
from speechscale.records.revisions import STAGE_REVISIONS, revisions_of
from speechscale.records.seal import sha256_file, sha256_json
from speechscale.records.shards import Sample, Skip, is_written, vocabulary_of, write_shard
from speechscale.units.codebook import Codebook, codebook_identity, load_codebook
from speechscale.units.collapse import append_eos, collapse
from speechscale.units.encoders import Encoder, load_encoder
from speechscale.units.mel import MelEncoder
from speechscale.units.source import LoadWaveforms, SpeechSource


@dataclass(frozen=True)
class ShardTask:
    """Everything that a worker needs to make one shard; small enough to send to other machines."""

    folder: Path
    manifest_slice: ManifestSlice
    root: Path  # audio paths are relative to it
    codebook: Path
    preprocessing: JsonObject
    load_waveforms: LoadWaveforms
    compute: ComputeOptions = DEFAULT_OPTIONS
    gpu: bool = False  # whether the task uses a GPU where there is one


def plan_shards(
    source: SpeechSource,
    codebook: Path,
    out: Path,
    *,
    seconds: float,
    compute: ComputeOptions = DEFAULT_OPTIONS,
) -> list[ShardTask]:
    """Divide a manifest into one task per shard, in the order of the manifest.

    Args:
        source: the speech to encode.
        codebook: file of the codebook, which names the encoder.
        out: folder of the shards.
        seconds: duration of the audio of one shard, approximately.
        compute: device, precision and batch size of the encoder.

    Raises:
        UserError: the manifest is broken or lists no utterance, or the codebook cannot be read.
    """
    source, codebook, out = source.absolute(), codebook.absolute(), out.absolute()
    slices = cut_manifest(source.manifest, seconds, source.split)
    if not slices:
        part = "" if source.split is None else f" of the split {source.split!r}"
        raise UserError(f"{source.manifest}: lists no utterances{part}, so there is nothing to encode.")
    book = load_codebook(codebook)
    shared = {
        "manifest_sha256": sha256_file(source.manifest),
        "plan_format_version": 2,  # 1: the released code, longest utterances first; 2: neighbours stay together
        "plan_num_shards": len(slices),
        "assignment_sha256": sha256_json([[part.start, part.end, part.count] for part in slices]),
        "precision": compute.precision,
        "revisions": revisions_of("encode"),
        **encoding_metadata(book, codebook),
    }
    gpu = compute.device != "cpu" and book.encoder["name"] != MelEncoder.name
    return [
        ShardTask(
            folder=out / f"shard-{number:05d}",
            manifest_slice=part,
            root=source.root,
            codebook=codebook,
            preprocessing={**shared, **_slice_fields(part)},
            load_waveforms=source.load_waveforms,
            compute=compute,
            gpu=gpu,
        )
        for number, part in enumerate(slices)
    ]


def _slice_fields(part: ManifestSlice) -> dict[str, int]:
    """The fields of `meta.json` in which the shards of one plan may differ."""
    speech = {"speech_revision": STAGE_REVISIONS["speech"]} if part.synthetic else {}
    return {"num_assigned_records": part.count, **speech}


def encoding_metadata(codebook: Codebook, path: Path) -> JsonObject:
    """How units are made, in the field names of the released `meta.json`; HuBERT's fields are null for log-mel."""
    hubert = codebook.encoder if codebook.encoder["name"] == "hubert" else {}
    return {
        "sample_rate": SAMPLE_RATE,
        "unit_extractor": codebook.encoder,
        "collapsed": True,
        "hubert_model": hubert.get("model"),
        "hubert_revision": hubert.get("revision"),
        "hubert_layer": hubert.get("layer"),
        "hubert_normalize": hubert.get("normalize"),
        "kmeans": codebook_identity(path),
        **vocabulary_of(len(codebook.centroids)),
    }


def is_encoded(task: ShardTask) -> bool:
    """Whether the shard of a task exists.

    Raises:
        UserError: it exists, but was made from other input or with other settings.
    """
    return is_written(task.folder, task.preprocessing)


def encode_shard(task: ShardTask) -> tuple[int, int]:
    """Make one shard; returns the number of utterances encoded and the number skipped.

    Raises:
        UserError: the codebook belongs to another encoder, or the shard cannot be written.
    """
    codebook = load_codebook(task.codebook)
    encoder = _cached_encoder(codebook.encoder, task.compute)
    try:
        codebook.require_encoder(encoder)
    except UserError as error:
        raise UserError(f"{task.codebook}: {error}") from error
    samples: list[Sample] = []
    skips: list[Skip] = []
    for batch in _load_batches(task, encoder.buffer_seconds):
        frames = iter(encoder.encode([wave for _, wave in batch if not isinstance(wave, SampleFault)]))
        for utterance, waveform in batch:
            outcome = (
                waveform
                if isinstance(waveform, SampleFault)
                else _to_sample(utterance, waveform, next(frames), codebook)
            )
            if isinstance(outcome, SampleFault):
                skips.append(Skip(utterance.id, outcome.reason, outcome.detail))
            else:
                samples.append(outcome)
    try:
        write_shard(task.folder, samples, skips, task.preprocessing)
    except UserError:
        # A worker that was given up as lost may have written the same shard in the meantime.
        if not is_encoded(task):
            raise
    return len(samples), len(skips)


_encoders: dict[str, Encoder] = {}  # of this process: only the encoder of the last shard


def _cached_encoder(identity: Mapping[str, Any], compute: ComputeOptions) -> Encoder:
    key = json.dumps([identity, asdict(compute)], sort_keys=True)
    if key not in _encoders:
        _encoders.clear()  # before loading: memory may not hold two models
        _encoders[key] = load_encoder(identity, compute)
    return _encoders[key]


def _load_batches(
    task: ShardTask, seconds: float
) -> Iterator[list[tuple[Utterance, np.ndarray | SampleFault]]]:
    """The utterances of a shard with their waveforms, in batches of `seconds` of audio (at least one utterance)."""
    batch: list[tuple[Utterance, np.ndarray | SampleFault]] = []
    samples = 0
    utterances = list(task.manifest_slice.utterances())
    for utterance, waveform in zip(utterances, task.load_waveforms(utterances, task.root), strict=True):
        batch.append((utterance, waveform))
        samples += 0 if isinstance(waveform, SampleFault) else len(waveform)
        if samples >= seconds * SAMPLE_RATE:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def _to_sample(
    utterance: Utterance, waveform: np.ndarray, frames: np.ndarray, codebook: Codebook
) -> Sample | SampleFault:
    if not len(frames):
        return SampleFault("too short", f"{len(waveform)} samples at {SAMPLE_RATE} Hz give no frame")
    units, durations = append_eos(*collapse(codebook.assign(frames)), len(codebook.centroids))
    return Sample(utterance.id, units, len(waveform) / SAMPLE_RATE, _metadata_row(utterance), durations)


def _metadata_row(utterance: Utterance) -> JsonObject:
    """The fields of the released `samples.jsonl`, and of our own those that the utterance has."""
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
    own = {
        "source_row": utterance.row,
        "source_column": utterance.column,
        "source_channel": utterance.channel,
        "extra": utterance.extra or None,
        # Says that the speech was synthesised from phonemes, so that the transcript is not its spelling.
        "phonemes": (utterance.synthesis and utterance.synthesis.phonemes) or None,
    }
    return {**row, **{name: value for name, value in own.items() if value is not None}}
