"""Learning of a codebook: k-means on a seeded sample of frames, and an evaluation of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import SampleFault, UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import SAMPLE_RATE, Utterance, sample_manifest
from speechscale.units.codebook import Codebook, save_codebook
from speechscale.units.encoders import Encoder, load_encoder
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.quality import (
    CodebookEvaluator,
    CodebookQuality,
    PhoneInterval,
    manifest_phones,
    write_quality,
)
from speechscale.units.source import SpeechSource

# For each utterance in order its phones; None where they are not known.
AlignPhones = Callable[[Sequence[Utterance]], Iterator[list[PhoneInterval] | None]]

_EVALUATION_UTTERANCES = 100  # utterances that a codebook is evaluated on, at most
_MIN_HELD_OUT = 20  # with fewer held-out utterances the codebook is evaluated on its training utterances
_UTTERANCES_PER_BATCH = 16  # loaded at once, so that memory does not grow with the sample


@dataclass(frozen=True)
class CodebookTask:
    """Everything that a worker needs to learn a codebook.

    Attributes:
        source: the speech to learn from.
        encoder: identity of the encoder.
        kmeans: size of the sample and settings of k-means.
        path: file of the codebook to write.
        compute: device, precision and batch size of the encoder and of k-means.
        align_phones: phones of the utterances that have none in the manifest.
    """

    source: SpeechSource
    encoder: JsonObject
    kmeans: KMeansSpec
    path: Path
    compute: ComputeOptions = DEFAULT_OPTIONS
    align_phones: AlignPhones | None = None


@dataclass(frozen=True)
class LearnedCodebook:
    """What a codebook was learned from, and its quality."""

    clusters: int
    frames: int
    unreadable: int  # utterances of the sample whose audio could not be loaded
    quality: CodebookQuality

    def __str__(self) -> str:
        skipped = f"; {self.unreadable} utterances of the sample could not be read" if self.unreadable else ""
        return f"{self.clusters} units learned from {self.frames} frames{skipped};\n{self.quality}"


def fit_codebook(task: CodebookTask) -> LearnedCodebook:
    """Learn a codebook, evaluate it and write both. The same task writes the same bytes.

    Raises:
        UserError: no utterance of the sample could be read, or they have too few frames.
    """
    utterances = task.kmeans.utterances
    sampled = sample_manifest(
        task.source.manifest, utterances + _EVALUATION_UTTERANCES, task.kmeans.seed, task.source.split
    )
    training = sampled[:utterances]
    encoder = load_encoder(task.encoder, task.compute)
    reservoir = FrameReservoir(task.kmeans.frames, encoder.dimension, task.kmeans.seed)
    encoded = 0
    for _, _, frames in _encoded_utterances(training, encoder, task.source):
        reservoir.add(frames)
        encoded += 1
    if not encoded:
        raise UserError(f"none of the {len(training)} utterances sampled for k-means could be read.")
    codebook = train_kmeans(reservoir.frames, task.kmeans, encoder.identity, task.compute)
    held_out = sampled[utterances:]
    if len(held_out) >= _MIN_HELD_OUT:
        quality = _evaluate(codebook, held_out, encoder, task).quality(held_out=True)
    else:
        quality = _evaluate(codebook, sampled[:_EVALUATION_UTTERANCES], encoder, task).quality(held_out=False)
    write_quality(quality, task.path)
    save_codebook(codebook, task.path)  # last, because its existence says that the task is done
    return LearnedCodebook(task.kmeans.clusters, len(reservoir.frames), len(training) - encoded, quality)


def evaluate_and_save_codebook(codebook: Codebook, task: CodebookTask) -> CodebookQuality:
    """Evaluate a codebook that was learned elsewhere on the speech of a task, and write both.

    Raises:
        UserError: it belongs to another encoder, or no utterance of the sample could be read.
    """
    source = task.source
    sampled = sample_manifest(source.manifest, _EVALUATION_UTTERANCES, task.kmeans.seed, source.split)
    encoder = load_encoder(task.encoder, task.compute)
    codebook.require_encoder(encoder)
    quality = _evaluate(codebook, sampled, encoder, task).quality(held_out=True)
    write_quality(quality, task.path)
    save_codebook(codebook, task.path)
    return quality


def _evaluate(
    codebook: Codebook, utterances: Sequence[Utterance], encoder: Encoder, task: CodebookTask
) -> CodebookEvaluator:
    evaluator = CodebookEvaluator(codebook, encoder.frame_rate)
    phones = dict(zip((u.id for u in utterances), _phones(utterances, task.align_phones), strict=True))
    for utterance, seconds, frames in _encoded_utterances(utterances, encoder, task.source):
        evaluator.add(frames, seconds, phones[utterance.id])
    return evaluator


def _phones(
    utterances: Sequence[Utterance], align_phones: AlignPhones | None
) -> Iterator[list[PhoneInterval] | None]:
    """The phones of the manifest where it has them, else those of `align_phones`."""
    listed = [manifest_phones(utterance) for utterance in utterances]
    without = [utterance for utterance, phones in zip(utterances, listed, strict=True) if phones is None]
    aligned = iter(align_phones(without)) if align_phones and without else iter([None] * len(without))
    for phones in listed:
        yield next(aligned) if phones is None else phones


def _encoded_utterances(
    utterances: Sequence[Utterance], encoder: Encoder, source: SpeechSource
) -> Iterator[tuple[Utterance, float, np.ndarray]]:
    """Each utterance that can be read, its seconds and its frames; a batch at a time is in memory."""
    step = max(_UTTERANCES_PER_BATCH, int(encoder.buffer_seconds / 10))  # at about ten seconds an utterance
    for start in range(0, len(utterances), step):
        batch = utterances[start : start + step]
        loaded = [
            (utterance, waveform)
            for utterance, waveform in zip(batch, source.load_waveforms(batch, source.root), strict=True)
            if not isinstance(waveform, SampleFault)
        ]
        encoded = encoder.encode([waveform for _, waveform in loaded])
        for (utterance, waveform), frames in zip(loaded, encoded, strict=True):
            if len(frames):
                yield utterance, len(waveform) / SAMPLE_RATE, frames


class FrameReservoir:
    """A uniform random sample of a stream of frames, in constant memory (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, dimension: int, seed: int) -> None:
        self._kept = np.empty((size, dimension), dtype=np.float32)  # pages are allocated as they are filled
        self._seen = 0
        self._rng = np.random.default_rng(seed)

    @property
    def frames(self) -> np.ndarray:
        """The frames kept, float32 [frames, dimension]."""
        return self._kept[: self._seen]

    def add(self, frames: np.ndarray) -> None:
        """Offer the frames of one utterance, float32 [frames, dimension]."""
        free = max(0, len(self._kept) - self._seen)
        self._kept[self._seen : self._seen + free][: len(frames)] = frames[:free]
        late = frames[free:]
        # Frame number t replaces a random one with probability size / t; of two for one position the later stays.
        order = np.arange(self._seen + min(free, len(frames)), self._seen + len(frames)) + 1
        positions = (self._rng.random(len(late)) * order).astype(np.int64)
        accepted = positions < len(self._kept)
        self._kept[positions[accepted]] = late[accepted]
        self._seen += len(frames)
