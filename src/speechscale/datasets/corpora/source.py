"""A corpus on disk: where it is, in which layout, and what its audio paths are relative to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip

UtteranceOrSkip = Utterance | Skip
TRAIN = "train"  # the split of an utterance for which the corpus states none


@dataclass(frozen=True)
class CorpusSource:
    """A corpus on disk, and how to read it."""

    path: Path
    layout: str
    root: Path  # audio paths of the manifest are relative to it; no file outside it is read
    dataset: str
    trust_durations: bool = False  # take stated durations without opening the audio files
