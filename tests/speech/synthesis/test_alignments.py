"""Phone alignments: they change no sample, fit the waveform, and follow the text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from synthesis_settings import espeak_settings

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.synthesis.alignments import phone_alignments
from speechscale.speech.synthesis.espeak import EspeakEngine

TEXT = "The old dog near the trees, has broken the drum. Cats sleep."


@pytest.mark.parametrize("voice", ["en-us", "en-us+f2", "en-us+whisper"])
def test_alignment_changes_no_sample(voice):
    with EspeakEngine() as engine:
        unaligned = engine.synthesize(TEXT, espeak_settings(voice))
    with EspeakEngine() as engine:
        phones = engine.align(TEXT, espeak_settings(voice))
        assert np.array_equal(engine.synthesize(TEXT, espeak_settings(voice)), unaligned)
        assert engine.align(TEXT, espeak_settings(voice)) == phones
    assert phones[-1][2] == pytest.approx(len(unaligned) / 16_000, abs=1e-3)


def test_phones_are_contiguous(espeak):
    for text in (TEXT, " ".join([TEXT] * 8)):
        phones = espeak.align(text, espeak_settings())
        assert 0 <= phones[0][1] < 0.05
        assert all(start < end for _, start, end in phones)
        assert all(a[2] == b[1] for a, b in pairwise(phones))
        assert np.median([end - start for _, start, end in phones]) < 0.12


def test_phones_match_the_words_and_pauses_are_silent(espeak):
    phones = espeak.align("dog, cat", espeak_settings())
    assert [name for name, _, _ in phones if name != "_"] == ["d", "0", "g", "k", "a", "t"]
    waveform = espeak.synthesize("dog, cat", espeak_settings())

    def rms(start, end):
        return np.sqrt(np.mean(waveform[int(16_000 * start) : int(16_000 * end)] ** 2))

    vowels = [rms(*edges) for name, *edges in phones if name in "0a"]
    pauses = [rms(*edges) for name, *edges in phones if name == "_"]
    assert pauses and max(pauses) < 0.1 * min(vowels)


def test_slower_rate_lengthens_the_alignment(espeak):
    fast, slow = (espeak.align(TEXT, espeak_settings(rate=rate)) for rate in (300, 150))
    assert 1.6 < slow[-1][2] / fast[-1][2] < 2.4


def test_utterances_without_alignment(espeak):
    with pytest.raises(SampleFault, match="no voice"):
        espeak.align("dog", espeak_settings("klingon-x"))
    utterances = [
        Utterance(
            id="synthesised", dataset="d", split="train", transcript="dog", synthesis=espeak_settings()
        ),
        Utterance(id="recorded", dataset="d", split="train", transcript="dog", audio="dog.wav"),
        Utterance(
            id="refused", dataset="d", split="train", transcript="dog", synthesis=espeak_settings("klingon-x")
        ),
        Utterance(id="repeated", dataset="d", split="train", transcript="dog", synthesis=espeak_settings()),
    ]
    first, recorded, refused, repeated = phone_alignments(utterances)
    assert recorded is refused is None
    assert first == repeated == espeak.align("dog", espeak_settings())
