"""When each phoneme of synthetic speech sounds, as far as its engine can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.synthesis.espeak import ESPEAK, Speaker


def phone_timings(utterances: Sequence[Utterance]) -> Iterator[list[tuple[str, float, float]] | None]:
    """Phonemes with start and end in seconds, for each utterance in order; None where the engine cannot say.

    A file that was synthesised says so in the manifest, and sounds as it would if it were spoken again.
    """
    with Speaker() as speaker:
        for utterance in utterances:
            how = utterance.synthesis
            if not how or how.engine != ESPEAK or utterance.offset:
                yield None
                continue
            try:
                yield speaker.timings(utterance.transcript or "", how)
            except SampleFault:
                yield None
