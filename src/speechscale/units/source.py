"""The speech that is read: a manifest, the folder of its audio, and the function that loads waveforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance

# (utterances, root) -> for each utterance in order its waveform, float32 [samples] at 16 kHz, or why it has none
LoadWaveforms = Callable[[Sequence[Utterance], Path], Iterator[np.ndarray | SampleFault]]


@dataclass(frozen=True)
class SpeechSource:
    """Utterances of a manifest, and how their waveforms are loaded. Sent to worker processes.

    Attributes:
        manifest: the manifest (JSON Lines).
        root: the folder that audio paths are relative to.
        load_waveforms: a function that worker processes can import.
        split: the only split to read; None reads all.
    """

    manifest: Path
    root: Path
    load_waveforms: LoadWaveforms
    split: str | None = None

    def absolute(self) -> SpeechSource:
        """The same source with absolute paths, for workers that start in another folder."""
        return SpeechSource(self.manifest.absolute(), self.root.absolute(), self.load_waveforms, self.split)
