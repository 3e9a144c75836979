"""espeak-ng: samples that depend on the request only, faults in order, and processes that end."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from process_tree import children_of, wait_until
from synthesis_settings import espeak_settings

from speechscale.errors import SampleFault
from speechscale.speech.synthesis.espeak import EspeakEngine, _speech_request

VOICES = ("en-us", "en-us+f2", "en-us+klatt2", "en-us+croak", "en-us+whisper")
TEXT = "The old dog near the trees has broken the drum."


def test_speech_is_a_function_of_text_voice_rate_and_seed():
    requests = [(text, espeak_settings(voice)) for voice in VOICES for text in (TEXT, "No cats ever sleep.")]
    with EspeakEngine() as engine:
        forward = [answer.tobytes() for answer in engine.synthesize_all(requests)]
        backward = [answer.tobytes() for answer in engine.synthesize_all(requests[::-1])][::-1]
    separate = []
    for request in requests:
        with EspeakEngine() as engine:
            separate.append(engine.synthesize(*request).tobytes())
    assert forward == backward == separate
    assert len(set(forward)) == len(forward)


def test_breath_noise_depends_on_the_seed(espeak):
    one, same, other = (espeak.synthesize(TEXT, espeak_settings("en-us+whisper", seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_higher_rate_is_shorter_and_samples_are_mono_float32(espeak):
    slow = espeak.synthesize(TEXT, espeak_settings(rate=130))
    fast = espeak.synthesize(TEXT, espeak_settings())
    assert fast.dtype == np.float32
    assert fast.ndim == 1
    assert 1.5 < len(slow) / len(fast) < 2.5
    assert 1.0 < len(fast) / 16_000 < 4.0
    assert 0.01 < np.abs(fast).max() <= 1.0


@pytest.mark.parametrize(
    ("text", "voice", "why"),
    [
        ("", "en-us", "inaudible: nothing audible"),
        (" ... , ;\n", "en-us", "inaudible: nothing audible"),
        ("dog", "klingon-x", "not spoken: espeak-ng has no voice 'klingon-x'"),
        ("dog", "en-us+nobody", "not spoken: espeak-ng has no voice 'en-us.nobody'"),
        ("dog", "en-us+", "no voice"),
        ("dog\0cat", "en-us", "holds a NUL"),
        ("dog \ud800", "en-us", "surrogates not allowed"),
    ],
)
def test_unspeakable_text_or_voice_is_a_fault(espeak, text, voice, why):
    with pytest.raises(SampleFault, match=why):
        espeak.synthesize(text, espeak_settings(voice))
    assert len(espeak.synthesize("dog", espeak_settings())) > 0


@pytest.mark.parametrize(
    "text", ["one\ntwo", 'she said "no"', "caf\u00e9 na\u00efve \u65e5\u672c", "<b>a</b> & [[b]]", "a" * 300]
)
def test_unusual_text_is_spoken_and_keeps_answers_in_order(espeak, text):
    word = espeak.synthesize("dog", espeak_settings())
    odd, after = espeak.synthesize_all([(text, espeak_settings()), ("dog", espeak_settings())])
    assert len(odd) > 1000
    assert np.array_equal(after, word)


def test_long_pending_requests_do_not_deadlock(espeak):
    long = ("no " * 10_000, espeak_settings(rate=450))
    answers = list(espeak.synthesize_all([long, ("no", espeak_settings()), long]))
    assert [type(answer) for answer in answers] == [np.ndarray] * 3
    assert len(answers[0]) > 1000 * len(answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_unread_answers_of_an_unfinished_call_are_discarded(espeak):
    expected = espeak.synthesize("cat", espeak_settings())
    unfinished = espeak.synthesize_all([(TEXT, espeak_settings())] * 10)
    next(unfinished)
    assert np.array_equal(espeak.synthesize("cat", espeak_settings()), expected)
    assert espeak.phonemize("cat", "en-us") == ["k", "'a", "t"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_killed_utterance_is_a_fault_and_the_next_is_spoken():
    def grandchildren_of(server):
        return [child for fork_server in children_of(server) for child in children_of(fork_server)]

    def kill_utterance_process(server):
        wait_until(lambda: grandchildren_of(server))
        (process,) = grandchildren_of(server)
        os.kill(process, 9)

    with EspeakEngine() as engine:
        word = engine.synthesize("dog", espeak_settings())
        killer = threading.Thread(target=kill_utterance_process, args=(engine._process.pid,))
        killer.start()
        killed, after = engine.synthesize_all(
            [("word " * 10_000, espeak_settings()), ("dog", espeak_settings())]
        )
        killer.join()
    assert isinstance(killed, SampleFault)
    assert "crashed" in str(killed)
    assert np.array_equal(after, word)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_all_processes_end_with_their_client():
    engine = EspeakEngine()
    for voice in VOICES[:2]:
        engine.synthesize("dog", espeak_settings(voice))
    fork_servers = children_of(engine._process.pid)
    assert len(fork_servers) == 2
    assert engine._process.stdin
    engine._process.stdin.close()
    assert engine._process.wait(timeout=10) == 0
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in fork_servers))


def test_exit_does_not_wait_for_pending_requests():
    with EspeakEngine() as engine:
        engine.synthesize("dog", espeak_settings())
        engine._send(_speech_request("word " * 10_000, espeak_settings()))
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0


def test_lost_server_is_an_error_and_not_a_fault():
    with EspeakEngine() as engine:
        engine._process.kill()
        engine._process.wait()
        with pytest.raises((RuntimeError, BrokenPipeError)):
            engine.synthesize("dog", espeak_settings())


def test_phonemes_of_a_word(espeak):
    assert espeak.phonemize("dogs", "en-us") == ["d", "'0", "g", "z"]
    with pytest.raises(SampleFault, match="no voice"):
        espeak.phonemize("dogs", "nowhere")
