import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from synthesis_settings import how

from speechscale.errors import SampleFault
from speechscale.speech.synthesis.espeak import EspeakEngine, _request

VOICES = ("en-us", "en-us+f2", "en-us+klatt2", "en-us+croak", "en-us+whisper")
TEXT = "The old dog near the trees has broken the drum."


def children_of(process: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended since
        if parent == process:
            found.append(int(status.parent.name))
    return found


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_speech_is_a_function_of_text_voice_rate_and_seed():
    requests = [(text, how(voice)) for voice in VOICES for text in (TEXT, "No cats ever sleep.")]
    with EspeakEngine() as one:
        there = [answer.tobytes() for answer in one.synthesize_all(requests)]
        back = [answer.tobytes() for answer in one.synthesize_all(requests[::-1])][::-1]
    alone = []
    for request in requests:
        with EspeakEngine() as fresh:
            alone.append(fresh.synthesize(*request).tobytes())
    assert there == back == alone
    assert len(set(there)) == len(there)


def test_breath_noise_follows_the_seed(speaker):
    one, same, other = (speaker.synthesize(TEXT, how("en-us+whisper", seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_rate_shortens_and_samples_are_mono_float32_at_16_khz(speaker):
    slow = speaker.synthesize(TEXT, how().model_copy(update={"words_per_minute": 130}))
    fast = speaker.synthesize(TEXT, how())
    assert fast.dtype == np.float32
    assert fast.ndim == 1
    assert 1.5 < len(slow) / len(fast) < 2.5
    assert 1.0 < len(fast) / 16_000 < 4.0
    assert 0.01 < np.abs(fast).max() <= 1.0


@pytest.mark.parametrize(
    ("text", "voice", "why"),
    [
        ("", "en-us", "inaudible: nothing to hear"),
        (" ... , ;\n", "en-us", "inaudible: nothing to hear"),
        ("dog", "klingon-x", "not spoken: espeak-ng has no voice 'klingon-x'"),
        ("dog", "en-us+nobody", "not spoken: espeak-ng has no voice 'en-us.nobody'"),
        ("dog", "en-us+", "no voice"),
        ("dog\0cat", "en-us", "holds a NUL"),
        ("dog \ud800", "en-us", "surrogates not allowed"),
    ],
)
def test_what_cannot_be_spoken_is_a_fault_of_its_own(speaker, text, voice, why):
    with pytest.raises(SampleFault, match=why):
        speaker.synthesize(text, how(voice))
    assert len(speaker.synthesize("dog", how())) > 0


@pytest.mark.parametrize(
    "text", ["one\ntwo", 'she said "no"', "caf\u00e9 na\u00efve \u65e5\u672c", "<b>a</b> & [[b]]", "a" * 300]
)
def test_odd_text_is_spoken_and_leaves_the_stream_in_step(speaker, text):
    word = speaker.synthesize("dog", how())
    odd, after = speaker.synthesize_all([(text, how()), ("dog", how())])
    assert len(odd) > 1000
    assert np.array_equal(after, word)


def test_long_texts_sent_one_after_another_do_not_block(speaker):
    long = ("no " * 10_000, how().model_copy(update={"words_per_minute": 450}))
    answers = list(speaker.synthesize_all([long, ("no", how()), long]))
    assert [type(answer) for answer in answers] == [np.ndarray] * 3
    assert len(answers[0]) > 1000 * len(answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_what_an_unfinished_call_left_unread_does_not_reach_the_next(speaker):
    expected = speaker.synthesize("cat", how())
    unfinished = speaker.synthesize_all([(TEXT, how())] * 10)
    next(unfinished)
    assert np.array_equal(speaker.synthesize("cat", how()), expected)
    assert speaker.phonemes("cat", "en-us") == ["k", "'a", "t"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_an_utterance_that_is_killed_is_a_fault_and_the_next_is_spoken():
    def kill_the_utterance(server):
        wait_for(lambda: [u for singer in children_of(server) for u in children_of(singer)])
        (utterance,) = [u for singer in children_of(server) for u in children_of(singer)]
        os.kill(utterance, 9)

    with EspeakEngine() as speaker:
        word = speaker.synthesize("dog", how())
        killer = threading.Thread(target=kill_the_utterance, args=(speaker._process.pid,))
        killer.start()
        killed, after = speaker.synthesize_all([("word " * 10_000, how()), ("dog", how())])
        killer.join()
    assert isinstance(killed, SampleFault)
    assert "crashed" in str(killed)
    assert np.array_equal(after, word)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_all_processes_end_with_their_client():
    speaker = EspeakEngine()
    for voice in VOICES[:2]:
        speaker.synthesize("dog", how(voice))
    singers = children_of(speaker._process.pid)
    assert len(singers) == 2
    assert speaker._process.stdin
    speaker._process.stdin.close()
    assert speaker._process.wait(timeout=10) == 0
    wait_for(lambda: not any(Path(f"/proc/{singer}").exists() for singer in singers))


def test_leaving_early_does_not_wait_for_what_is_being_spoken():
    with EspeakEngine() as speaker:
        speaker.synthesize("dog", how())
        speaker._send(_request("word " * 10_000, how()))
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0


def test_a_lost_server_is_no_fault_of_the_utterance():
    with EspeakEngine() as speaker:
        speaker._process.kill()
        speaker._process.wait()
        with pytest.raises((RuntimeError, BrokenPipeError)):
            speaker.synthesize("dog", how())


def test_phonemes_of_a_word(speaker):
    assert speaker.phonemes("dogs", "en-us") == ["d", "'0", "g", "z"]
    with pytest.raises(SampleFault, match="no voice"):
        speaker.phonemes("dogs", "nowhere")
