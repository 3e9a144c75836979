"""Loading of waveforms: audio files and synthesis in the order of the manifest, with faults in place."""

import numpy as np
import pytest
import soundfile
from synthesis_settings import espeak_settings

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.synthesis.espeak import EspeakEngine
from speechscale.speech.waveforms import load_waveforms


def utterance(name, **source):
    return Utterance(id=name, dataset="d", split="s", **source)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    for path, value in (("a.wav", 0.1), ("deep/b.wav", 0.2), ("../outside.wav", 0.3)):
        soundfile.write(folder / path, np.full(1600, value, dtype=np.float32), 16_000, subtype="FLOAT")
    return folder


def test_waveforms_and_faults_keep_the_order_of_the_manifest(root):
    answers = list(
        load_waveforms(
            [
                utterance("1", transcript="The dog sleeps.", synthesis=espeak_settings()),
                utterance("2", audio="a.wav"),
                utterance("3", transcript="", synthesis=espeak_settings()),
                utterance("4", audio="none.wav"),
                utterance("5", transcript="The cat sleeps.", synthesis=espeak_settings()),
                utterance("6", audio="deep/b.wav", offset=0.05, duration=0.025),
                utterance("7"),
            ],
            root,
        )
    )
    with EspeakEngine() as espeak:
        for answer, text in ((answers[0], "The dog sleeps."), (answers[4], "The cat sleeps.")):
            assert np.array_equal(answer, espeak.synthesize(text, espeak_settings()))
    assert np.array_equal(answers[1], np.full(1600, 0.1, dtype=np.float32))
    assert np.array_equal(answers[5], np.full(400, 0.2, dtype=np.float32))
    faults = {i: answer.reason for i, answer in enumerate(answers) if isinstance(answer, SampleFault)}
    assert faults == {2: "inaudible", 3: "missing", 6: "no source"}


def test_audio_takes_precedence_over_synthesis(root):
    (answer,) = load_waveforms(
        [utterance("1", audio="a.wav", transcript="dog", synthesis=espeak_settings())], root
    )
    assert len(answer) == 1600


@pytest.mark.parametrize("path", ["../outside.wav", "deep/../../outside.wav", "link.wav", "ABSOLUTE"])
def test_path_outside_the_root_is_a_fault(root, path):
    (root / "link.wav").symlink_to(root.parent / "outside.wav")
    audio = str(root.parent / "outside.wav") if path == "ABSOLUTE" else path
    (answer,) = load_waveforms([utterance("1", audio=audio)], root)
    assert isinstance(answer, SampleFault)
    assert answer.reason == "outside"


def test_no_utterances_give_no_waveforms(root):
    assert list(load_waveforms([], root)) == []
