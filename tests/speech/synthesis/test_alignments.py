"""When phonemes sound: the speech stays the same, the timings fit it, and they follow what is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from synthesis_settings import how

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.synthesis.alignments import phone_alignments
from speechscale.speech.synthesis.espeak import EspeakEngine

TEXT = "The old dog near the trees, has broken the drum. Cats sleep."


@pytest.mark.parametrize("voice", ["en-us", "en-us+f2", "en-us+whisper"])
def test_timing_changes_no_sample(voice):
    with EspeakEngine() as untimed:
        alone = untimed.synthesize(TEXT, how(voice))
    with EspeakEngine() as speaker:
        timed = speaker.timings(TEXT, how(voice))
        assert np.array_equal(speaker.synthesize(TEXT, how(voice)), alone)
        assert speaker.timings(TEXT, how(voice)) == timed
    assert timed[-1][2] == pytest.approx(len(alone) / 16_000, abs=1e-3)


def test_timings_are_in_order_and_leave_no_hole(speaker):
    for text in (TEXT, " ".join([TEXT] * 8)):
        phones = speaker.timings(text, how())
        assert 0 <= phones[0][1] < 0.05
        assert all(start < end for _, start, end in phones)
        assert all(a[2] == b[1] for a, b in pairwise(phones))
        assert np.median([end - start for _, start, end in phones]) < 0.12


def test_phonemes_are_those_of_the_words_and_pauses_are_quiet(speaker):
    phones = speaker.timings("dog, cat", how())
    assert [name for name, _, _ in phones if name != "_"] == ["d", "0", "g", "k", "a", "t"]
    waveform = speaker.synthesize("dog, cat", how())

    def loudness(start, end):
        return np.sqrt(np.mean(waveform[int(16_000 * start) : int(16_000 * end)] ** 2))

    vowels = [loudness(*edges) for name, *edges in phones if name in "0a"]
    pauses = [loudness(*edges) for name, *edges in phones if name == "_"]
    assert pauses and max(pauses) < 0.1 * min(vowels)


def test_a_slower_voice_takes_its_time(speaker):
    fast, slow = (
        speaker.timings(TEXT, how().model_copy(update={"words_per_minute": rate})) for rate in (300, 150)
    )
    assert 1.6 < slow[-1][2] / fast[-1][2] < 2.4


def test_what_cannot_be_spoken_has_no_timings(speaker):
    with pytest.raises(SampleFault, match="no voice"):
        speaker.timings("dog", how("klingon-x"))
    utterances = [
        Utterance(id="spoken", dataset="d", split="train", transcript="dog", synthesis=how()),
        Utterance(id="recorded", dataset="d", split="train", transcript="dog", audio="dog.wav"),
        Utterance(id="refused", dataset="d", split="train", transcript="dog", synthesis=how("klingon-x")),
        Utterance(id="again", dataset="d", split="train", transcript="dog", synthesis=how()),
    ]
    first, recorded, refused, again = phone_alignments(utterances)
    assert recorded is refused is None
    assert first == again == speaker.timings("dog", how())
