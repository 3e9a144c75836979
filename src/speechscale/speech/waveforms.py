"""Loading of utterances as waveforms: from audio files, from rows of Parquet files, or by speech synthesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from speechscale.errors import SampleFault
from speechscale.records.manifest import Synthesis, Utterance
from speechscale.speech.audio.recordings import RecordingCache
from speechscale.speech.synthesis.engines import open_engine


def load_waveforms(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """The waveform of each utterance in order, float32 [samples], mono at 16 kHz, or the fault that prevents it.

    Args:
        utterances: each with audio or a synthesis; where it has both, the audio is read.
        root: the folder that audio paths are relative to; a path that leaves it is a fault.

    Raises:
        UserError: a speech engine is unknown or not installed.
    """
    with ExitStack() as stack:
        requests: dict[str, list[tuple[str, Synthesis]]] = {}  # by engine
        for utterance in utterances:
            if utterance.synthesis and not utterance.audio:
                request = (utterance.transcript or "", utterance.synthesis)
                requests.setdefault(utterance.synthesis.engine, []).append(request)
        synthesized = {
            name: stack.enter_context(open_engine(name)).synthesize_all(requests[name]) for name in requests
        }
        recordings = stack.enter_context(RecordingCache(root))
        for utterance in utterances:
            if utterance.audio:
                yield _load_recorded(utterance, recordings)
            elif utterance.synthesis:
                yield next(synthesized[utterance.synthesis.engine])
            else:
                yield SampleFault(
                    "no source",
                    f"{utterance.id} has neither audio nor synthesis; name a file or synthesise it first",
                )


def _load_recorded(utterance: Utterance, recordings: RecordingCache) -> np.ndarray | SampleFault:
    try:
        recording = recordings.open(utterance)
        return recording.read_segment(utterance.offset, utterance.duration, utterance.channel)
    except SampleFault as fault:
        recordings.close_last()
        return fault
