"""Texts to utterances and parts: voices by seed, skips with their reasons, the same bytes however often."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthesis_settings import how

from speechscale.errors import UserError
from speechscale.records.manifest import Synthesis, Utterance, read_manifest
from speechscale.records.seal import verify
from speechscale.speech.batch_synthesis import (
    PART_SCHEMA,
    SynthesisOptions,
    is_part_complete,
    merge_parts,
    write_manifest_without_audio,
    plan_parts,
    synthesize_part,
    write_text_manifest,
)
from speechscale.speech.synthesis.engines import check_voices, open_engine
from speechscale.speech.synthesis.espeak import ESPEAK
from speechscale.speech.texts import Text, TextFiles
from speechscale.speech.waveforms import load_waveforms

VOICES = ("en-us", "en-us+f2", "en-us+m3")
READING = SynthesisOptions("lines", "train", ESPEAK, VOICES, 300, seed=1)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "lines.jsonl"
    given = [{"text": f"The dog sees {n} cats."} for n in range(5)]
    given += [{"text": ""}, {"text": "..."}, {"text": "a \ud800 b"}, {"text": "Ein Satz.", "id": "é/../x y"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return TextFiles(path)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_voice_depends_on_seed_and_id_alone():
    texts = [Text(f"text {number}", "here", id=f"name-{number}") for number in range(300)]
    there = {text.id: READING.utterance(text, n) for n, text in enumerate(texts)}
    back = {text.id: READING.utterance(text, n) for n, text in enumerate(reversed(texts))}
    assert there == back
    voices = [utterance.speaker for utterance in there.values()]
    assert all(70 <= voices.count(voice) <= 130 for voice in VOICES)  # 100 each, give or take 3.7 deviations
    other = SynthesisOptions("lines", "train", ESPEAK, VOICES, 300, seed=2)
    assert [other.utterance(text, 0).speaker for text in texts] != voices


def test_a_speaker_has_one_voice_and_keeps_the_name():
    said = [READING.utterance(Text(f"text {n}", "here", speaker="ann"), n) for n in range(20)]
    assert {utterance.speaker for utterance in said} == {"ann"}
    assert len({utterance.synthesis.voice for utterance in said if utterance.synthesis}) == 1
    assert said[3].id == "lines/000003"


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_parts_hold_what_was_spoken_and_name_what_was_not(tmp_path, source, format):
    out = tmp_path / "out"
    write_text_manifest(source, READING, out / "texts")
    tasks = plan_parts(out, 2.0, format)
    assert len(tasks) > 1
    assert not any(is_part_complete(task) for task in tasks)
    for task in tasks:
        synthesize_part(task)
        verify(task.folder, PART_SCHEMA)
    assert all(is_part_complete(task) for task in tasks)
    told = merge_parts(out, tasks)
    assert (told.spoken, told.skipped) == (6, 3)
    skips = {row["id"]: row["reason"] for row in rows(out / "skips.jsonl")}
    assert skips == {
        "lines/000005": "empty text",
        "lines/000006": "inaudible",
        "lines/000007": "not unicode",
    }
    spoken = list(read_manifest(out / "manifest.jsonl"))
    assert [utterance.id for utterance in spoken] == [*(f"lines/{n:06d}" for n in range(5)), "é/../x y"]
    assert told.seconds == pytest.approx(sum(utterance.duration or 0 for utterance in spoken))
    # What lies in the files is what is spoken again without them, but for 16 bits.
    again = [utterance.model_copy(update={"audio": None}) for utterance in spoken]
    for utterance, kept, anew in zip(
        spoken, load_waveforms(spoken, out), load_waveforms(again, out), strict=True
    ):
        assert utterance.audio
        info = soundfile.info(out / utterance.audio)
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, format.upper())
        assert len(kept) == len(anew) == round((utterance.duration or 0) * 16_000)
        assert np.abs(kept - anew).max() < 1e-4


def test_without_audio_the_same_manifest_says_how_to_speak(tmp_path, source):
    out = tmp_path / "out"
    write_text_manifest(source, READING, out / "texts")
    told = write_manifest_without_audio(out)
    assert (told.spoken, told.skipped, told.seconds) == (7, 2, None)
    assert all(u.synthesis and not u.audio for u in read_manifest(out / "manifest.jsonl"))


def test_parts_are_the_same_bytes_each_time(tmp_path, source):
    for name in ("a", "b"):
        write_text_manifest(source, READING, tmp_path / name / "texts")
        for task in reversed(plan_parts(tmp_path / name, 2.0, "wav")):
            synthesize_part(task)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_other_settings_are_refused_by_field(tmp_path, source):
    folder = tmp_path / "texts"
    write_text_manifest(source, READING, folder)
    write_text_manifest(source, READING, folder)  # stands already
    slower = SynthesisOptions("lines", "train", ESPEAK, VOICES, 200, seed=1)
    with pytest.raises(UserError, match=r"spec\.words_per_minute: found 300, wanted 200"):
        write_text_manifest(source, slower, folder)
    source.path.write_text('{"text": "other"}\n')
    with pytest.raises(UserError, match=r"spec\.source\.files\.lines"):
        write_text_manifest(source, READING, folder)


def test_repeated_ids_and_empty_sources_are_sentences_and_leave_nothing(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n')
    with pytest.raises(UserError, match="twice: the id '1' occurs twice"):
        write_text_manifest(TextFiles(path), READING, tmp_path / "texts")
    path.write_text('{"text": ""}\n{"text": null}\n')
    with pytest.raises(UserError, match=r"no text to speak \(2 texts, all of them empty\)"):
        write_text_manifest(TextFiles(path), READING, tmp_path / "texts")
    assert [file.name for file in tmp_path.iterdir()] == ["twice.jsonl"]


def test_engines_are_known_by_name():
    with pytest.raises(UserError, match=r"no speech engine 'espeak' \(did you mean 'espeak-ng'\?\)"):
        open_engine("espeak")
    utterance = Utterance(
        id="a",
        dataset="d",
        split="s",
        transcript="dog",
        synthesis=how().model_copy(update={"engine": "festival"}),
    )
    with pytest.raises(UserError, match="no speech engine 'festival'; known here: espeak-ng, kokoro"):
        next(load_waveforms([utterance], Path()))


def test_an_unknown_voice_is_named_before_any_work():
    ways = [
        Synthesis(engine=ESPEAK, voice=voice, words_per_minute=200, seed=0) for voice in ("en-us", "xx-y")
    ]
    with pytest.raises(UserError, match="--voice: 'xx-y' cannot speak"):
        check_voices(ways, "--voice")
