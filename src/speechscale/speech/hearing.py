"""The waveform of an utterance, wherever it comes from: read from its file, or spoken again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.decode import decode
from speechscale.speech.synthesis import Speaker


def hear(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """Mono float32 at 16 kHz for each utterance in order, or the fault that makes it unusable.

    `root` is the folder that audio paths are relative to; a path that leaves it is a fault.
    """
    with ExitStack() as stack:
        spoken: Iterator[np.ndarray | SampleFault] = iter(())
        requests = [(u.transcript or "", u.synthesis) for u in utterances if u.synthesis and not u.audio]
        if requests:
            spoken = stack.enter_context(Speaker()).speak_all(requests)
        for utterance in utterances:
            if utterance.audio:
                yield _read(utterance, root)
            elif utterance.synthesis:
                yield next(spoken)
            else:
                yield SampleFault("no source", f"{utterance.id} has neither audio nor synthesis")


def _read(utterance: Utterance, root: Path) -> np.ndarray | SampleFault:
    assert utterance.audio
    path = (root / utterance.audio).resolve()
    if not path.is_relative_to(root.resolve()):
        return SampleFault("outside", f"{utterance.audio} lies outside {root}")
    try:
        return decode(path, utterance.offset, utterance.duration)
    except SampleFault as fault:
        return fault
