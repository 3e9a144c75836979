"""The synthesis job: defaults of its options, with and without audio, and the files that a second call reuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.jobs.synthesize import AudioOptions, TextOptions, VoiceOptions, synthesize_texts
from speechscale.records.manifest import read_manifest

THREE_STORIES = TextOptions(stories=8, limit=3)


def test_defaults_give_stories_by_the_default_voice(tmp_path: Path) -> None:
    summary = synthesize_texts(tmp_path / "out", THREE_STORIES, VoiceOptions())
    assert (summary.utterances, summary.skipped, summary.seconds) == (3, 0, None)
    utterances = list(read_manifest(tmp_path / "out" / "manifest.jsonl"))
    assert [utterance.id for utterance in utterances] == [f"stories/{number:06d}" for number in range(3)]
    assert {(u.dataset, u.split, u.speaker) for u in utterances} == {("stories", "train", "en-us")}


def test_file_names_the_data_set_and_its_fields_override_the_split(tmp_path: Path) -> None:
    path = tmp_path / "tales.jsonl"
    path.write_text('{"tale": "A dog sleeps.", "split": "test"}\n{"tale": "A cat sings."}\n')
    voices = VoiceOptions(split="dev", voices=("en-us+f2",))
    synthesize_texts(tmp_path / "out", TextOptions(path=path, field="tale"), voices)
    utterances = list(read_manifest(tmp_path / "out" / "manifest.jsonl"))
    assert [(u.dataset, u.split, u.speaker) for u in utterances] == [
        ("tales", "test", "en-us+f2"),
        ("tales", "dev", "en-us+f2"),
    ]


def test_other_settings_of_complete_parts_are_refused(tmp_path: Path) -> None:
    audio = AudioOptions(audio_format="flac", part_seconds=60)
    summary = synthesize_texts(tmp_path, THREE_STORIES, VoiceOptions(), audio=audio, workers=1)
    assert summary.seconds and summary.seconds > 5
    again = synthesize_texts(tmp_path, THREE_STORIES, VoiceOptions(), audio=audio, workers=1)
    assert again == summary
    with pytest.raises(UserError, match=r"spec\.words_per_minute: found 175, wanted 200"):
        synthesize_texts(tmp_path, THREE_STORIES, VoiceOptions(words_per_minute=200), audio=audio)
    with pytest.raises(UserError, match=r"spec\.format: found .?flac.?, wanted .?wav"):
        synthesize_texts(
            tmp_path, THREE_STORIES, VoiceOptions(), audio=AudioOptions(audio_format="wav", part_seconds=60)
        )
