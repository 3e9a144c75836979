"""The waveform of an utterance, wherever it comes from: read from its file or row, or spoken again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from speechscale.errors import SampleFault
from speechscale.records.manifest import Synthesis, Utterance
from speechscale.speech.audio.sources import Sources
from speechscale.speech.synthesis.engines import open_engine


def load_waveforms(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """Mono float32 at 16 kHz for each utterance in order, or the fault that makes it unusable.

    `root` is the folder that audio paths are relative to; a path that leaves it is a fault.

    Raises:
        UserError: an engine that is unknown here or not installed.
    """
    with ExitStack() as stack:
        requests: dict[str, list[tuple[str, Synthesis]]] = {}  # of each engine
        for utterance in utterances:
            if utterance.synthesis and not utterance.audio:
                request = (utterance.transcript or "", utterance.synthesis)
                requests.setdefault(utterance.synthesis.engine, []).append(request)
        spoken = {name: stack.enter_context(open_engine(name)).speak_all(requests[name]) for name in requests}
        sources = stack.enter_context(Sources(root))
        for utterance in utterances:
            if utterance.audio:
                yield _read(utterance, sources)
            elif utterance.synthesis:
                yield next(spoken[utterance.synthesis.engine])
            else:
                yield SampleFault(
                    "no source",
                    f"{utterance.id} has neither audio nor synthesis; name a file or speak it first",
                )


def _read(utterance: Utterance, sources: Sources) -> np.ndarray | SampleFault:
    try:
        recording = sources.recording(utterance)
        return recording.segment(utterance.offset, utterance.duration, utterance.channel)
    except SampleFault as fault:
        sources.close_recording()
        return fault
