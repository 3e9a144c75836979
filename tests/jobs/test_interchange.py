"""Foreign models as runs that can be scored, and what models say with a sound to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechscale.errors import UserError
from speechscale.jobs.evaluate import score_run
from speechscale.jobs.generate import (
    GENERATED_SCHEMA,
    MelVoice,
    Prompt,
    VocoderVoice,
    write_continuations,
)
from speechscale.jobs.interchange import export_run, import_run
from speechscale.model.generate import Sampling
from speechscale.model.interchange import export_model
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.runs import read_record
from speechscale.records.seal import sha256_file, verify
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.train.checkpoint import load_model
from speechscale.units.kmeans import CodeBook, save_code_book
from speechscale.units.mel import MelEncoder, MelSpec

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=12, context=64, hidden_multiple=16)
EOS = 10


@pytest.fixture
def code_book(tmp_path: Path) -> Path:
    """Ten units of random spectra."""
    rng = np.random.default_rng(0)
    centroids = rng.standard_normal((10, 40)).astype(np.float32)
    encoder = MelEncoder(MelSpec()).identity
    save_code_book(
        CodeBook(centroids, np.full(40, -3, np.float32), 1.0, encoder), tmp_path / "book.safetensors"
    )
    return tmp_path / "book.safetensors"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    export_model(model, tmp_path / "foreign", "official", {})
    return tmp_path / "foreign"


@pytest.fixture
def shards(tmp_path: Path, code_book: Path) -> Path:
    made = {
        "vocab_size": 12,
        "eos_token": EOS,
        "pad_token": 11,
        "unit_extractor": MelEncoder(MelSpec()).identity,
        "kmeans": {"name": "book", "sha256": sha256_file(code_book)},
    }
    rng = np.random.default_rng(0)
    samples = []
    for item in range(20):
        for member in ("correct", "wrong"):
            units = np.append(rng.integers(0, 10, 8), EOS).astype(np.int16)
            label = {"task": "t", "group_id": str(item), "pair_id": str(item), "correct": member == "correct"}
            lasts = np.append(rng.integers(1, 4, 8), 0)
            row = {"speaker": "v", "extra": label}
            samples.append(Sample(f"{item}-{member}", units, 1.0, row, lasts))
    write_shard(tmp_path / "shards" / "shard-0", samples, [], made)
    return tmp_path / "shards"


def test_an_imported_model_is_scored_like_any_run(
    foreign: Path, code_book: Path, shards: Path, tmp_path: Path
) -> None:
    record = import_run(foreign, tmp_path / "run", code_book=code_book, tokens=1_000)
    assert record == read_record(tmp_path / "run" / "record.json")
    assert (record.status, record.params, record.flops) == ("imported", SHAPE.params, 6e3 * SHAPE.params)
    scored = score_run(record, tmp_path / "run", shards)
    assert scored.scores["t"].items == 20
    export_run(tmp_path / "run", tmp_path / "llama", "hugging-face")
    import_run(tmp_path / "llama", tmp_path / "again", code_book=None, tokens=0)  # the folder says its units
    again = score_run(record, tmp_path / "again", shards)
    assert again.scores == scored.scores
    assert load_model(tmp_path / "again" / "model.safetensors")[1]["kmeans"] == sha256_file(code_book)


def test_units_that_nobody_named_are_said_to_be_unknown(foreign: Path, shards: Path, tmp_path: Path) -> None:
    record = import_run(foreign, tmp_path / "run", code_book=None, tokens=0)
    with pytest.raises(UserError, match=r"does not record the code book of its units.*--code-book"):
        score_run(record, tmp_path / "run", shards)


def test_imports_that_do_not_go(foreign: Path, code_book: Path, tmp_path: Path) -> None:
    book = CodeBook(np.zeros((7, 40), np.float32), np.zeros(40, np.float32), 1.0, {"name": "mel"})
    save_code_book(book, tmp_path / "seven.safetensors")
    with pytest.raises(UserError, match="has 7 units; the model's vocabulary of 12 wants 10"):
        import_run(foreign, tmp_path / "run", code_book=tmp_path / "seven.safetensors", tokens=0)
    assert not (tmp_path / "run").exists()
    import_run(foreign, tmp_path / "run", code_book=code_book, tokens=0)
    with pytest.raises(UserError, match="exists already"):
        import_run(foreign, tmp_path / "run", code_book=code_book, tokens=0)
    export_run(tmp_path / "run", tmp_path / "out", "official")
    other = CodeBook(np.ones((10, 40), np.float32), np.zeros(40, np.float32), 1.0, {"name": "mel"})
    save_code_book(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not the code book that the model names"):
        import_run(tmp_path / "out", tmp_path / "run2", code_book=tmp_path / "other.safetensors", tokens=0)


@pytest.fixture
def run(foreign: Path, code_book: Path, tmp_path: Path) -> Path:
    import_run(foreign, tmp_path / "run", code_book=code_book, tokens=0)
    return tmp_path / "run"


def test_what_a_model_says_is_kept_with_its_sound(
    run: Path, code_book: Path, shards: Path, tmp_path: Path
) -> None:
    prompt, voice = Prompt(shards, 3, "2-wrong"), MelVoice(code_book, shards)
    ended, heard = write_continuations(
        run, tmp_path / "out", count=5, most=20, sampling=Sampling(seed=3), prompt=prompt, voice=voice
    )
    verify(tmp_path / "out", GENERATED_SCHEMA)
    rows = [json.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines()]
    row_of = {
        row["id"]: units
        for row, units in zip(open_shards(shards)[0].rows(), open_shards(shards)[0].samples(), strict=True)
    }
    assert len(rows) == 5 == heard and ended == sum(row["units"][-1] == EOS for row in rows)
    for row in rows:
        assert row["prompt"] == row_of["2-wrong"][:3].tolist() and len(row["units"]) <= 20
        samples, rate = soundfile.read(tmp_path / "out" / row["file"])
        said = 3 + len(row["units"]) - row["ended"]
        assert rate == 16_000 and len(samples) % 640 == 0 and said <= len(samples) / 640 <= 3 * said
    assert "means of" in json.loads((tmp_path / "out" / "seal.json").read_text())["spec"]["durations"]
    write_continuations(
        run, tmp_path / "same", count=5, most=20, sampling=Sampling(seed=3), prompt=prompt, voice=voice
    )
    assert (tmp_path / "same" / "units.jsonl").read_bytes() == (tmp_path / "out" / "units.jsonl").read_bytes()
    assert (tmp_path / "same" / "0.wav").read_bytes() == (tmp_path / "out" / "0.wav").read_bytes()


def test_from_nothing_and_without_sound(run: Path, tmp_path: Path) -> None:
    _, heard = write_continuations(
        run, tmp_path / "out", count=2, most=None, sampling=Sampling(temperature=0), prompt=None, voice=None
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines()]
    with pytest.raises(UserError, match="exists already"):
        write_continuations(
            run, tmp_path / "out", count=1, most=1, sampling=Sampling(), prompt=None, voice=None
        )
    assert heard == 0 and rows[0]["units"] == rows[1]["units"] and rows[0]["file"] is None


def test_prompts_and_voices_of_other_units_are_refused(
    run: Path, code_book: Path, shards: Path, tmp_path: Path
) -> None:
    def ask(prompt: Prompt | None = None, voice: MelVoice | VocoderVoice | None = None) -> None:
        write_continuations(
            run, tmp_path / "out", count=1, most=5, sampling=Sampling(), prompt=prompt, voice=voice
        )

    with pytest.raises(UserError, match="no sample 'absent' here"):
        ask(Prompt(shards, 3, "absent"))
    made = dict(open_shards(shards)[0].preprocessing)
    write_shard(tmp_path / "more" / "s", [], [], {**made, "vocab_size": 13, "eos_token": 11})
    with pytest.raises(UserError, match=r"vocabulary and EOS are \(13, 11\), the model's \(12, 10\)"):
        ask(Prompt(tmp_path / "more", 3))
    write_shard(tmp_path / "else" / "s", [], [], {**made, "kmeans": {"name": "k", "sha256": "f" * 64}})
    with pytest.raises(UserError, match="another code book"):
        ask(Prompt(tmp_path / "else", 3))
    other = CodeBook(np.ones((10, 40), np.float32), np.zeros(40, np.float32), 1.0, {"name": "mel"})
    save_code_book(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not the code book of the model's units"):
        ask(voice=MelVoice(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="no such vocoder checkpoint"):
        ask(voice=VocoderVoice(tmp_path / "absent.pt", tmp_path / "config.json", "0" * 64))
    assert not (tmp_path / "out").exists()
