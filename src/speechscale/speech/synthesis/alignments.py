"""Phone alignments of synthetic speech, from the engines that report them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine


def phone_alignments(utterances: Sequence[Utterance]) -> Iterator[list[tuple[str, float, float]] | None]:
    """Phones with start and end in seconds, for each utterance in order; None where the engine reports none.

    Audio files that were synthesised are aligned too: the manifest keeps their synthesis, which is repeated here.
    """
    with EspeakEngine() as espeak:
        for utterance in utterances:
            settings = utterance.synthesis
            if not settings or settings.engine != ESPEAK or utterance.offset:
                yield None
                continue
            try:
                yield espeak.align(utterance.transcript or "", settings)
            except SampleFault:
                yield None
