"""How fast text becomes speech: seconds of audio a second, on one core.

Baseline, in the same run: speaking in one process without restoring espeak-ng's state, which is faster but makes the
samples depend on what was spoken before.

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
HOW = Synthesis(engine=ESPEAK, voice="en-us", words_per_minute=300, seed=0)
ROUNDS = 5


def stateful(texts: list[str]) -> float:
    """Speak in this process; returns seconds of audio."""
    lib = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = lib.espeak_Initialize(2, 0, os.fsencode(espeakng_loader.get_data_path()), 0)
    samples = 0

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def count(_wave, number, _events):
        nonlocal samples
        samples += number
        return 0

    lib.espeak_SetSynthCallback(count)
    lib.espeak_SetVoiceByName(HOW.voice.encode())
    lib.espeak_SetParameter(1, HOW.words_per_minute, 0)
    for text in texts:
        data = text.encode()
        lib.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
    return samples / rate


def exact(texts: list[str]) -> float:
    """Speak through the fork server and resample to 16 kHz; returns seconds of audio."""
    with EspeakEngine() as speaker:
        return (
            sum(len(waveform) for waveform in speaker.synthesize_all([(text, HOW) for text in texts]))
            / SAMPLE_RATE
        )


def main() -> None:
    seconds = {exact: [], stateful: []}
    for _ in range(ROUNDS):
        for way in seconds:
            started = perf_counter()
            audio = way(TEXTS)
            seconds[way].append(perf_counter() - started)
    for way, spent in seconds.items():
        per_text = 1000 * median(spent) / len(TEXTS)
        print(f"{way.__name__:<9} {audio / median(spent):7.0f} x real time  {per_text:6.2f} ms an utterance")
    ratio = median(a / b for a, b in zip(seconds[exact], seconds[stateful], strict=True))
    print(f"exact / stateful time: {ratio:.2f} (resampling included)")


main()
