"""Opening of recordings: the last one stays open, paths stay inside the root."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_files import audio, audio_bytes, parquet

from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.speech.audio.decode import load_audio
from speechscale.speech.audio.recordings import RecordingCache


def utterance(audio: str, row: int | None = None) -> Utterance:
    return Utterance(id="a", dataset="d", split="s", audio=audio, row=row)


def test_consecutive_utterances_of_a_file_share_its_recording(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", seed=1)
    audio(tmp_path / "b.wav", seed=2)
    with RecordingCache(tmp_path) as recordings:
        first = recordings.open(utterance("a.wav"))
        assert recordings.open(utterance("a.wav")) is first
        assert recordings.open(utterance("b.wav")) is not first
        assert recordings.open(utterance("a.wav")) is not first


def test_closed_recording_is_opened_again(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    with RecordingCache(tmp_path) as recordings:
        first = recordings.open(utterance("a.wav"))
        recordings.close_last()
        assert recordings.open(utterance("a.wav")) is not first


def test_rows_of_parquet_files_are_recordings(tmp_path: Path) -> None:
    sounds = [audio_bytes(seed=seed) for seed in range(4)]
    for name, part in (("a.parquet", sounds[:2]), ("b.parquet", sounds[2:])):
        parquet(tmp_path / name, {}, sounds=part)
    with RecordingCache(tmp_path) as recordings:
        for number in (0, 1, 2, 3, 0):
            recording = recordings.open(utterance("ab"[number // 2] + ".parquet", number % 2))
            assert recording.name == f"{'ab'[number // 2]}.parquet: row {number % 2}"
            assert np.array_equal(recording.read_segment(), load_audio(sounds[number]))


def test_path_outside_the_root_is_refused(tmp_path: Path) -> None:
    audio(tmp_path / "outside.wav")
    (tmp_path / "corpus").mkdir()
    with RecordingCache(tmp_path / "corpus") as recordings:
        for row in (None, 0):
            with pytest.raises(SampleFault, match="outside"):
                recordings.open(utterance("../outside.wav", row))
