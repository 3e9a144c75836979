"""Settings with which the tests synthesise speech."""

from __future__ import annotations

from speechscale.records.manifest import Synthesis
from speechscale.speech.synthesis.espeak import ESPEAK


def espeak_settings(
    voice: str = "en-us", seed: int = 0, *, rate: int = 260, phonemes: bool = False
) -> Synthesis:
    """The settings of an utterance by espeak-ng; `rate` in words per minute."""
    return Synthesis(engine=ESPEAK, voice=voice, words_per_minute=rate, seed=seed, phonemes=phonemes)
