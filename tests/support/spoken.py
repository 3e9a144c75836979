"""How the tests have things spoken."""

from __future__ import annotations

from speechscale.records.manifest import Synthesis
from speechscale.speech.synthesis.espeak import ESPEAK


def how(voice: str = "en-us", seed: int = 0, *, phonemes: bool = False) -> Synthesis:
    return Synthesis(engine=ESPEAK, voice=voice, words_per_minute=260, seed=seed, phonemes=phonemes)
