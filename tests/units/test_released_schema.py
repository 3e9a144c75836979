"""Encoded shards have the released schema (2), checked by reading them as the released code does.

The lists below are copied from the released code, independently of ours.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.codebook import save_codebook
from speechscale.units.encode import encode_shard, plan_shards
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource

FILES = {"audio.bin", "audio.len", "samples.jsonl", "skips.jsonl", "meta.json"}
META = {
    "schema_version": int,
    "num_samples": int,
    "num_audio_steps": int,
    "num_skipped": int,
    "keep_audio": bool,
    "preprocessing": dict,
    "checksums": dict,
}
PREPROCESSING = {
    "manifest_sha256": str,
    "plan_format_version": int,
    "plan_num_shards": int,
    "assignment_sha256": str,
    "num_assigned_records": int,
    "sample_rate": int,
    "unit_extractor": dict,  # a name there, and never read; here all settings of the encoder
    "collapsed": bool,
    "hubert_model": (str, type(None)),
    "hubert_revision": (str, type(None)),
    "hubert_layer": (int, type(None)),
    "hubert_normalize": (bool, type(None)),
    "kmeans": dict,
    "vocab_size": int,
    "eos_token": int,
    "pad_token": int,
}
ROW = {
    "id": str,
    "audio_steps": int,
    "dataset": str,
    "split": str,
    "speaker": (str, type(None)),
    "source_revision": (str, type(None)),
    "source_audio_name": (str, type(None)),
    "source_offset": float,
    "source_duration": (float, type(None)),
}
SKIP = {"id": str, "reason": str, "detail": str}


def require_fields(found: dict, wanted: dict) -> None:
    for key, kind in wanted.items():
        assert key in found and isinstance(found[key], kind), (key, found.get(key, "absent"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_schema(folder: Path) -> tuple[list[dict], list[dict]]:
    """Every rule of the schema, file by file and key by key; returns the rows and the skips."""
    assert {file.name for file in folder.iterdir()} - {"durations.bin"} == FILES
    meta = json.loads((folder / "meta.json").read_text())
    require_fields(meta, META)
    made = meta["preprocessing"]
    require_fields(made, PREPROCESSING)
    require_fields(made["kmeans"], {"name": str, "sha256": str})
    assert meta["schema_version"] == 2 and meta["keep_audio"] is False and made["sample_rate"] == 16_000
    assert made["collapsed"] is True
    assert (made["eos_token"], made["pad_token"]) == (made["vocab_size"] - 2, made["vocab_size"] - 1)
    assert meta["checksums"].keys() >= FILES - {"meta.json"}
    for name, wanted in meta["checksums"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted
    units = np.frombuffer((folder / "audio.bin").read_bytes(), dtype="<i2")
    lengths = np.frombuffer((folder / "audio.len").read_bytes(), dtype="<i8")
    rows, skips = lines(folder / "samples.jsonl"), lines(folder / "skips.jsonl")
    assert (len(lengths), len(units), len(skips)) == (
        meta["num_samples"],
        meta["num_audio_steps"],
        meta["num_skipped"],
    )
    assert made["num_assigned_records"] == len(rows) + len(skips)
    assert lengths.sum() == len(units) and [row["audio_steps"] for row in rows] == lengths.tolist()
    start = 0
    for length in lengths:
        codes = units[start : start + length]
        assert codes[-1] == made["eos_token"]
        assert codes[:-1].min() >= 0 and codes[:-1].max() < made["eos_token"]
        assert (np.diff(codes) != 0).all()  # collapsed
        start += length
    for row in rows:
        require_fields(row, ROW)
    for skip in skips:
        require_fields(skip, SKIP)
    return rows, skips


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A synthesised corpus with an empty sentence and a missing audio file."""
    texts = [
        "the bird sang in the tree",
        "",
        "a man walked to the river",
        "two men talked",
        "she laughed aloud",
    ]
    spoken = [
        Utterance(
            id=f"s/{number}",
            dataset="tales",
            split="train",
            speaker="en-us" if number else None,
            transcript=text,
            synthesis=Synthesis(engine="espeak-ng", voice="en-us", words_per_minute=200, seed=number),
        )
        for number, text in enumerate(texts)
    ]
    spoken.append(
        Utterance(id="missing ü", dataset="tales", split="train", audio="nö where.wav", duration=1.0)
    )
    write_manifest(spoken, tmp_path / "manifest.jsonl")
    encoder = MelEncoder(MelSpec())
    waveforms = [w for w in load_waveforms(spoken[:1], tmp_path) if not isinstance(w, Exception)]
    book = train_kmeans(encoder.encode(waveforms)[0], KMeansSpec(clusters=12), encoder.identity)
    save_codebook(book, tmp_path / "book.safetensors")
    tasks = plan_shards(
        SpeechSource(tmp_path / "manifest.jsonl", tmp_path, load_waveforms),
        tmp_path / "book.safetensors",
        tmp_path / "out",
        seconds=4.0,
    )
    for task in tasks:
        encode_shard(task)
    return tmp_path


def test_every_shard_satisfies_the_released_schema(shards: Path) -> None:
    checked = [check_schema(folder) for folder in sorted((shards / "out").iterdir())]
    assert len(checked) > 1
    assert [row["id"] for rows, _ in checked for row in rows] == ["s/0", "s/2", "s/3", "s/4"]
    assert [skip["id"] for _, skips in checked for skip in skips] == ["s/1", "missing ü"]
    rows = [row for rows, _ in checked for row in rows]
    assert {row["dataset"] for row in rows} == {"tales"} and [row["speaker"] for row in rows][:2] == [
        None,
        "en-us",
    ]


def test_preprocessing_names_the_files_and_the_plan(shards: Path) -> None:
    for folder in sorted((shards / "out").iterdir()):
        made = json.loads((folder / "meta.json").read_text())["preprocessing"]
        for key, path in (("manifest_sha256", "manifest.jsonl"), ("kmeans", "book.safetensors")):
            found = made[key]["sha256"] if key == "kmeans" else made[key]
            assert found == hashlib.sha256((shards / path).read_bytes()).hexdigest()
        assert made["kmeans"]["name"] == "book.safetensors"
        assert made["plan_num_shards"] == len(list((shards / "out").iterdir()))
        assert (made["unit_extractor"]["name"], made["vocab_size"]) == ("mel", 14)
        assert made["revisions"] == {"encode": 1}


def test_durations_add_up_to_the_frames_of_the_audio(shards: Path) -> None:
    """Beyond the schema: 25 frames a second of log-mel, the last one padded."""
    for folder in sorted((shards / "out").iterdir()):
        lengths = np.fromfile(folder / "audio.len", dtype="<i8")
        frames = np.fromfile(folder / "durations.bin", dtype="<i4")
        rows = lines(folder / "samples.jsonl")
        ends = np.cumsum(lengths)
        for row, start, end in zip(rows, ends - lengths, ends, strict=True):
            assert frames[start:end].sum() == np.ceil(round(row["seconds"] * 16_000) / 640)
            assert frames[end - 1] == 0 and frames[start : end - 1].min() >= 1
