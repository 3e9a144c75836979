"""Speed of speech synthesis: seconds of audio per second, on one core.

Baseline, in the same run: synthesis in one process that keeps espeak-ng's state, which is faster but makes the
samples depend on earlier utterances.

    python benchmarks/synthesis.py
"""

from __future__ import annotations

import ctypes
import os
from statistics import median
from time import perf_counter

import espeakng_loader

from speechscale.records.manifest import SAMPLE_RATE, Synthesis
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine
from speechscale.speech.texts import StoryTexts

TEXTS = [story.text for story in StoryTexts("small", 200, seed=0).texts()]
SETTINGS = Synthesis(engine=ESPEAK, voice="en-us", words_per_minute=300, seed=0)
ROUNDS = 5


def stateful(texts: list[str]) -> float:
    """Synthesise in this process; returns seconds of audio."""
    lib = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = lib.espeak_Initialize(2, 0, os.fsencode(espeakng_loader.get_data_path()), 0)
    samples = 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def count(_wave, number, _events):
        nonlocal samples
        samples += number
        return 0

    lib.espeak_SetSynthCallback(count)
    lib.espeak_SetVoiceByName(SETTINGS.voice.encode())
    lib.espeak_SetParameter(1, SETTINGS.words_per_minute, 0)
    for text in texts:
        data = text.encode()
        lib.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
    return samples / rate


def reproducible(texts: list[str]) -> float:
    """Synthesise through the fork server and resample to 16 kHz; returns seconds of audio."""
    with EspeakEngine() as espeak:
        return (
            sum(len(waveform) for waveform in espeak.synthesize_all([(text, SETTINGS) for text in texts]))
            / SAMPLE_RATE
        )


def main() -> None:
    seconds = {reproducible: [], stateful: []}
    for _ in range(ROUNDS):
        for method in seconds:
            started = perf_counter()
            audio = method(TEXTS)
            seconds[method].append(perf_counter() - started)
    for method, spent in seconds.items():
        per_text = 1000 * median(spent) / len(TEXTS)
        print(
            f"{method.__name__:<12} {audio / median(spent):7.0f} x real time  {per_text:6.2f} ms per utterance"
        )
    ratio = median(a / b for a, b in zip(seconds[reproducible], seconds[stateful], strict=True))
    print(f"reproducible / stateful time: {ratio:.2f} (resampling included)")


main()
