import numpy as np
import pytest
import soundfile
from synthesis_settings import how

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


def test_files_and_speech_come_in_the_order_of_the_manifest_with_faults_in_place(root):
    answers = list(
        load_waveforms(
            [
                utterance("1", transcript="The dog sleeps.", synthesis=how()),
                utterance("2", audio="a.wav"),
                utterance("3", transcript="", synthesis=how()),
                utterance("4", audio="none.wav"),
                utterance("5", transcript="The cat sleeps.", synthesis=how()),
                utterance("6", audio="deep/b.wav", offset=0.05, duration=0.025),
                utterance("7"),
            ],
            root,
        )
    )
    with EspeakEngine() as speaker:
        for answer, text in ((answers[0], "The dog sleeps."), (answers[4], "The cat sleeps.")):
            assert np.array_equal(answer, speaker.synthesize(text, how()))
    assert np.array_equal(answers[1], np.full(1600, 0.1, dtype=np.float32))
    assert np.array_equal(answers[5], np.full(400, 0.2, dtype=np.float32))
    faults = {i: answer.reason for i, answer in enumerate(answers) if isinstance(answer, SampleFault)}
    assert faults == {2: "inaudible", 3: "missing", 6: "no source"}


def test_a_file_takes_precedence_over_its_synthesis(root):
    (answer,) = load_waveforms([utterance("1", audio="a.wav", transcript="dog", synthesis=how())], root)
    assert len(answer) == 1600


@pytest.mark.parametrize("path", ["../outside.wav", "deep/../../outside.wav", "link.wav", "ABSOLUTE"])
def test_a_path_that_leaves_the_folder_is_a_fault(root, path):
    (root / "link.wav").symlink_to(root.parent / "outside.wav")
    audio = str(root.parent / "outside.wav") if path == "ABSOLUTE" else path
    (answer,) = load_waveforms([utterance("1", audio=audio)], root)
    assert isinstance(answer, SampleFault)
    assert answer.reason == "outside"


def test_nothing_is_heard_of_nothing(root):
    assert list(load_waveforms([], root)) == []
