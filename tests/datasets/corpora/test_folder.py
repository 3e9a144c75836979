"""Folders of audio files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from corpus_files import audio, list_corpus

from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.speech.waveforms import load_waveforms

NO_DRAW = SplitOptions(test_share=0)


def test_a_folder_of_audio(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "my corpus"
    for name, seconds, rate in (
        ("b.wav", 0.5, 8000), ("a/ü ö.flac", 1.25, 44_100), ("a/x.ogg", 1.0, 16_000),
        ("A.MP3", 1.0, 24_000), ("z.opus", 0.7, 48_000),
    ):  # fmt: skip
        audio(folder / name.lower(), seconds, rate).rename(folder / name)
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_text("no audio")
    result = list_corpus(folder, out, NO_DRAW)
    assert result.ids == [
        f"my corpus/{name}" for name in ("A.MP3", "a/x.ogg", "a/ü ö.flac", "b.wav", "z.opus")
    ]
    assert [u.duration for u in result.utterances] == [1.0, 1.0, 1.25, 0.5, 0.7]
    assert [u.sample_rate for u in result.utterances] == [24_000, 16_000, 44_100, 8000, 48_000]
    assert result.ids_of_split("train") == set(result.ids) and not result.skips
    assert all(
        isinstance(waveform, np.ndarray) for waveform in load_waveforms(result.utterances, result.root)
    )


def test_folders_named_like_splits_are_splits(tmp_path: Path, out: Path) -> None:
    for name in ("train/a.wav", "test/b.wav", "validation/c.wav", "test-bench/d.wav"):
        audio(tmp_path / "c" / name)
    result = list_corpus(tmp_path / "c", out)
    assert result.ids_of_split("test") == {"c/test/b.wav"} and result.ids_of_split("dev") == {
        "c/validation/c.wav"
    }
    assert result.ids_of_split("train") == {"c/train/a.wav", "c/test-bench/d.wav"}


def test_links_are_followed_within_the_corpus_and_no_further(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "c" / "a" / "a.wav")
    audio(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "c" / "again").symlink_to(tmp_path / "c" / "a")
    (tmp_path / "c" / "a" / "loop").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "c" / "b.wav").symlink_to(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "c" / "self.wav").symlink_to(tmp_path / "c" / "self.wav")
    result = list_corpus(tmp_path / "c", out, NO_DRAW)
    assert result.ids == ["c/a/a.wav", "c/again/a.wav"]
    assert result.reasons == {
        "a/loop": "link loop", "again/loop": "link loop", "away": "outside",
        "c/b.wav": "outside", "c/self.wav": "missing",
    }  # fmt: skip
