"""A manifest to a code book: hear a seeded sample, take frames from all over it, learn, and measure what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions
from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import SAMPLE_RATE, Utterance, sample_manifest
from speechscale.units.encode import LoadWaveforms
from speechscale.units.encoders import Encoder, load_encoder
from speechscale.units.kmeans import CodeBook, KMeansSpec, save_code_book, train_kmeans
from speechscale.units.quality import Measurement, Phone, Quality, phones_in, write_quality

# of utterances that have no phones in the manifest
Timings = Callable[[Sequence[Utterance]], Iterator[list[Phone] | None]]

_MEASURED = 100  # utterances that a code book is measured on
_ENOUGH = 20  # utterances not learnt from; with fewer it is measured on those it was learnt from
_HANDFUL = 16  # utterances heard at once, so that memory does not grow with the sample


@dataclass(frozen=True)
class CodeBookTask:
    """Everything a worker needs to learn a code book."""

    manifest: Path
    root: Path  # what audio paths are relative to
    encoder: dict[str, Any]  # its identity
    kmeans: KMeansSpec
    path: Path
    load_waveforms: LoadWaveforms
    split: str | None = None  # learn from this split only
    computing: ComputeOptions = DEFAULT_OPTIONS
    timings: Timings | None = None


@dataclass(frozen=True)
class Learnt:
    """What a code book was learnt from, and how good it is."""

    frames: int
    faulty: int  # utterances of the sample that could not be heard
    quality: Quality


def make_code_book(task: CodeBookTask) -> Learnt:
    """Learn a code book, measure it, and write both: the same whatever the machine's other work.

    Raises:
        UserError: none of the sampled utterances could be heard, or they have too few frames.
    """
    wanted = task.kmeans.utterances
    drawn = sample_manifest(task.manifest, wanted + _MEASURED, task.kmeans.seed, task.split)
    chosen = drawn[:wanted]
    encoder = load_encoder(task.encoder, task.computing)
    sample = FrameSample(task.kmeans.frames, encoder.dimension, task.kmeans.seed)
    heard = 0
    for _, _, frames in _frames(chosen, encoder, task):
        sample.add(frames)
        heard += 1
    if not heard:
        raise UserError(f"none of the {len(chosen)} utterances sampled for k-means could be heard.")
    book = train_kmeans(sample.frames, task.kmeans, encoder.identity, task.computing)
    quality = _measure(book, drawn, encoder, task)
    write_quality(quality, task.path)
    save_code_book(book, task.path)  # last: where it stands, all is done
    return Learnt(len(sample.frames), len(chosen) - heard, quality)


def adopt_code_book(book: CodeBook, task: CodeBookTask) -> Quality:
    """Measure a code book that was learnt elsewhere on the sample of a task, and write it with its report.

    Raises:
        UserError: it belongs to another encoder, or none of the sampled utterances could be heard.
    """
    drawn = sample_manifest(task.manifest, _MEASURED, task.kmeans.seed, task.split)
    encoder = load_encoder(task.encoder, task.computing)
    book.check_frames_of(encoder)
    quality = _measured(book, drawn, encoder, task).quality(held_out=True)
    write_quality(quality, task.path)
    save_code_book(book, task.path)
    return quality


def _measure(book: CodeBook, drawn: Sequence[Utterance], encoder: Encoder, task: CodeBookTask) -> Quality:
    """On utterances that were not learnt from, where there are enough."""
    unseen = drawn[task.kmeans.utterances :]
    held_out = len(unseen) >= _ENOUGH
    return _measured(book, unseen if held_out else drawn[:_MEASURED], encoder, task).quality(held_out)


def _measured(
    book: CodeBook, utterances: Sequence[Utterance], encoder: Encoder, task: CodeBookTask
) -> Measurement:
    measurement = Measurement(book, encoder.rate)
    phones = dict(zip((u.id for u in utterances), _phones(utterances, task.timings), strict=True))
    for utterance, seconds, frames in _frames(utterances, encoder, task):
        measurement.add(frames, seconds, phones[utterance.id])
    return measurement


def _phones(utterances: Sequence[Utterance], timings: Timings | None) -> Iterator[list[Phone] | None]:
    """Those of the manifest first, else those that the synthesiser tells."""
    given = [phones_in(utterance) for utterance in utterances]
    without = [utterance for utterance, phones in zip(utterances, given, strict=True) if phones is None]
    told = iter(timings(without)) if timings and without else iter([None] * len(without))
    for phones in given:
        yield next(told) if phones is None else phones


def _frames(
    utterances: Sequence[Utterance], encoder: Encoder, task: CodeBookTask
) -> Iterator[tuple[Utterance, float, np.ndarray]]:
    """Each utterance that can be heard, its seconds and its frames; a handful in memory at a time."""
    step = max(_HANDFUL, int(encoder.lookahead / 10))  # about ten seconds each
    for start in range(0, len(utterances), step):
        some = utterances[start : start + step]
        heard = [
            (utterance, waveform)
            for utterance, waveform in zip(some, task.load_waveforms(some, task.root), strict=True)
            if not isinstance(waveform, SampleFault)
        ]
        encoded = encoder.encode([waveform for _, waveform in heard])
        for (utterance, waveform), frames in zip(heard, encoded, strict=True):
            if len(frames):
                yield utterance, len(waveform) / SAMPLE_RATE, frames


class FrameSample:
    """A uniform sample of all frames that pass by, in the memory of the sample (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, dimension: int, seed: int) -> None:
        self._kept = np.empty((size, dimension), dtype=np.float32)  # the system gives memory as it is filled
        self._seen = 0
        self._rng = np.random.default_rng(seed)

    @property
    def frames(self) -> np.ndarray:
        """Those kept, float32 [frames, dimension]."""
        return self._kept[: self._seen]

    def add(self, frames: np.ndarray) -> None:
        """Frames of one utterance, float32 [frames, dimension]."""
        room = max(0, len(self._kept) - self._seen)
        self._kept[self._seen : self._seen + room][: len(frames)] = frames[:room]
        late = frames[room:]
        # the t-th frame is kept with probability size / t, in a random place; of two in one place the later stays
        order = np.arange(self._seen + min(room, len(frames)), self._seen + len(frames)) + 1
        places = (self._rng.random(len(late)) * order).astype(np.int64)
        stays = places < len(self._kept)
        self._kept[places[stays]] = late[stays]
        self._seen += len(frames)
