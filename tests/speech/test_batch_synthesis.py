"""Batch synthesis: voices by seed, skips with their reasons, and reproducible bytes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from folders import folder_bytes
from synthesis_settings import espeak_settings

from speechscale.errors import UserError
from speechscale.records.manifest import Synthesis, Utterance, read_manifest
from speechscale.records.seal import verify
from speechscale.speech.batch_synthesis import (
    PART_SCHEMA,
    SynthesisOptions,
    is_part_complete,
    merge_parts,
    plan_parts,
    synthesize_part,
    write_manifest_without_audio,
    write_text_manifest,
)
from speechscale.speech.synthesis.engines import check_voices, open_engine
from speechscale.speech.synthesis.espeak import ESPEAK
from speechscale.speech.texts import Text, TextFiles
from speechscale.speech.waveforms import load_waveforms

VOICES = ("en-us", "en-us+f2", "en-us+m3")
OPTIONS = SynthesisOptions(
    dataset="lines", split="train", engine=ESPEAK, voices=VOICES, words_per_minute=300, seed=1
)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "lines.jsonl"
    rows = [{"text": f"The dog sees {n} cats."} for n in range(5)]
    rows += [{"text": ""}, {"text": "..."}, {"text": "a \ud800 b"}, {"text": "Ein Satz.", "id": "é/../x y"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TextFiles(path)


def test_voice_depends_on_seed_and_id_only():
    texts = [Text(f"text {number}", "here", id=f"name-{number}") for number in range(300)]
    forward = {text.id: OPTIONS.to_utterance(text, n) for n, text in enumerate(texts)}
    backward = {text.id: OPTIONS.to_utterance(text, n) for n, text in enumerate(reversed(texts))}
    assert forward == backward
    voices = [utterance.speaker for utterance in forward.values()]
    assert all(
        70 <= voices.count(voice) <= 130 for voice in VOICES
    )  # 100 each, within 3.7 standard deviations
    other = replace(OPTIONS, seed=2)
    assert [other.to_utterance(text, 0).speaker for text in texts] != voices


def test_speaker_has_one_voice_and_keeps_the_name():
    utterances = [OPTIONS.to_utterance(Text(f"text {n}", "here", speaker="ann"), n) for n in range(20)]
    assert {utterance.speaker for utterance in utterances} == {"ann"}
    assert len({utterance.synthesis.voice for utterance in utterances if utterance.synthesis}) == 1
    assert utterances[3].id == "lines/000003"


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_parts_hold_audio_and_skips(tmp_path, source, audio_format):
    out = tmp_path / "out"
    write_text_manifest(source, OPTIONS, out / "texts")
    tasks = plan_parts(out, 2.0, audio_format)
    assert len(tasks) > 1
    assert not any(is_part_complete(task) for task in tasks)
    for task in tasks:
        synthesize_part(task)
        verify(task.folder, PART_SCHEMA)
    assert all(is_part_complete(task) for task in tasks)
    summary = merge_parts(out, tasks)
    assert (summary.utterances, summary.skipped) == (6, 3)
    skips = {row["id"]: row["reason"] for row in read_rows(out / "skips.jsonl")}
    assert skips == {
        "lines/000005": "empty text",
        "lines/000006": "inaudible",
        "lines/000007": "not unicode",
    }
    utterances = list(read_manifest(out / "manifest.jsonl"))
    assert [utterance.id for utterance in utterances] == [*(f"lines/{n:06d}" for n in range(5)), "é/../x y"]
    assert summary.seconds == pytest.approx(sum(utterance.duration or 0 for utterance in utterances))
    # The files hold what is synthesised again without them, up to 16-bit rounding.
    without_audio = [utterance.model_copy(update={"audio": None}) for utterance in utterances]
    for utterance, recorded, repeated in zip(
        utterances, load_waveforms(utterances, out), load_waveforms(without_audio, out), strict=True
    ):
        assert utterance.audio
        info = soundfile.info(out / utterance.audio)
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, audio_format.upper())
        assert len(recorded) == len(repeated) == round((utterance.duration or 0) * 16_000)
        assert np.abs(recorded - repeated).max() < 1e-4


def test_manifest_without_audio_holds_the_synthesis(tmp_path, source):
    out = tmp_path / "out"
    write_text_manifest(source, OPTIONS, out / "texts")
    summary = write_manifest_without_audio(out)
    assert (summary.utterances, summary.skipped, summary.seconds) == (7, 2, None)
    assert all(u.synthesis and not u.audio for u in read_manifest(out / "manifest.jsonl"))


def test_parts_are_reproducible(tmp_path, source):
    for name in ("a", "b"):
        write_text_manifest(source, OPTIONS, tmp_path / name / "texts")
        for task in reversed(plan_parts(tmp_path / name, 2.0, "wav")):
            synthesize_part(task)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_other_settings_are_refused_with_the_field(tmp_path, source):
    folder = tmp_path / "texts"
    write_text_manifest(source, OPTIONS, folder)
    write_text_manifest(source, OPTIONS, folder)  # up to date
    slower = replace(OPTIONS, words_per_minute=200)
    with pytest.raises(UserError, match=r"spec\.words_per_minute: found 300, wanted 200"):
        write_text_manifest(source, slower, folder)
    source.path.write_text('{"text": "other"}\n')
    with pytest.raises(UserError, match=r"spec\.source\.files\.lines"):
        write_text_manifest(source, OPTIONS, folder)


def test_repeated_ids_and_empty_sources_are_refused_and_leave_no_files(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n')
    with pytest.raises(UserError, match="twice: the id '1' occurs twice"):
        write_text_manifest(TextFiles(path), OPTIONS, tmp_path / "texts")
    path.write_text('{"text": ""}\n{"text": null}\n')
    with pytest.raises(UserError, match=r"no text to synthesise \(2 texts, all of them empty\)"):
        write_text_manifest(TextFiles(path), OPTIONS, tmp_path / "texts")
    assert [file.name for file in tmp_path.iterdir()] == ["twice.jsonl"]


def test_unknown_engine_is_refused():
    with pytest.raises(UserError, match=r"no speech engine 'espeak' \(did you mean 'espeak-ng'\?\)"):
        open_engine("espeak")
    utterance = Utterance(
        id="a",
        dataset="d",
        split="s",
        transcript="dog",
        synthesis=espeak_settings().model_copy(update={"engine": "festival"}),
    )
    with pytest.raises(UserError, match="no speech engine 'festival'; known here: espeak-ng, kokoro"):
        next(load_waveforms([utterance], Path()))


def test_unknown_voice_is_refused_before_any_work():
    settings = [
        Synthesis(engine=ESPEAK, voice=voice, words_per_minute=200, seed=0) for voice in ("en-us", "xx-y")
    ]
    with pytest.raises(UserError, match="--voice: 'xx-y' cannot speak"):
        check_voices(settings, "--voice")
