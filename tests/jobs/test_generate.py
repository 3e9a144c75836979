"""Continuations of a model: units, sound and the seal, and prompts and vocoders that do not fit the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from mel_model import EOS, write_codebook, write_foreign_model, write_labelled_shards, write_other_codebook

from speechscale.errors import UserError
from speechscale.jobs.generate import (
    GENERATED_SCHEMA,
    Generation,
    Prompt,
    Sampling,
    VocoderOptions,
    write_continuations,
)
from speechscale.jobs.interchange import import_run
from speechscale.records.seal import verify
from speechscale.records.shards import open_shards, write_shard


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    return write_codebook(tmp_path / "book.safetensors")


@pytest.fixture
def shards(tmp_path: Path, codebook: Path) -> Path:
    return write_labelled_shards(tmp_path / "shards", codebook)


@pytest.fixture
def run(codebook: Path, tmp_path: Path) -> Path:
    import_run(write_foreign_model(tmp_path / "foreign"), tmp_path / "run", codebook=codebook, tokens=0)
    return tmp_path / "run"


def test_continuations_are_written_with_sound(
    run: Path, codebook: Path, shards: Path, tmp_path: Path
) -> None:
    prompt, vocoder = Prompt(shards, 3, "2-wrong"), VocoderOptions(codebook, shards)
    request = {"count": 5, "max_new_tokens": 20, "sampling": Sampling(seed=3)}
    generation = write_continuations(run, tmp_path / "out", **request, prompt=prompt, vocoder=vocoder)
    verify(tmp_path / "out", GENERATED_SCHEMA)
    rows = [json.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines()]
    units_of = {
        row["id"]: units
        for row, units in zip(open_shards(shards)[0].rows(), open_shards(shards)[0].samples(), strict=True)
    }
    assert len(rows) == 5 == generation.audible and generation.ended == sum(
        row["units"][-1] == EOS for row in rows
    )
    for row in rows:
        assert row["prompt"] == units_of["2-wrong"][:3].tolist() and len(row["units"]) <= 20
        samples, rate = soundfile.read(tmp_path / "out" / row["file"])
        spoken = 3 + len(row["units"]) - row["ended"]
        assert rate == 16_000 and len(samples) % 640 == 0 and spoken <= len(samples) / 640 <= 3 * spoken
    assert "means of" in json.loads((tmp_path / "out" / "seal.json").read_text())["spec"]["durations"]
    write_continuations(run, tmp_path / "same", **request, prompt=prompt, vocoder=vocoder)
    assert (tmp_path / "same" / "units.jsonl").read_bytes() == (tmp_path / "out" / "units.jsonl").read_bytes()
    assert (tmp_path / "same" / "0.wav").read_bytes() == (tmp_path / "out" / "0.wav").read_bytes()


def test_continuations_without_prompt_and_sound(run: Path, tmp_path: Path) -> None:
    def write(sampling: Sampling) -> Generation:
        return write_continuations(
            run,
            tmp_path / "out",
            count=2,
            max_new_tokens=None,
            sampling=sampling,
            prompt=None,
            vocoder=VocoderOptions(),
        )

    generation = write(Sampling(temperature=0))
    rows = [json.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines()]
    with pytest.raises(UserError, match="exists already"):
        write(Sampling())
    assert generation.audible == 0 and rows[0]["units"] == rows[1]["units"] and rows[0]["file"] is None


def test_prompts_and_vocoders_of_other_units_are_refused(
    run: Path, codebook: Path, shards: Path, tmp_path: Path
) -> None:
    def write(prompt: Prompt | None = None, **vocoder: Path) -> None:
        write_continuations(
            run,
            tmp_path / "out",
            count=1,
            max_new_tokens=5,
            sampling=Sampling(),
            prompt=prompt,
            vocoder=VocoderOptions(**vocoder),
        )

    with pytest.raises(UserError, match="no sample 'absent' here"):
        write(Prompt(shards, 3, "absent"))
    preprocessing = dict(open_shards(shards)[0].preprocessing)
    write_shard(tmp_path / "more" / "s", [], [], {**preprocessing, "vocab_size": 13, "eos_token": 11})
    with pytest.raises(UserError, match=r"vocabulary and EOS are \(13, 11\), the model's \(12, 10\)"):
        write(Prompt(tmp_path / "more", 3))
    write_shard(
        tmp_path / "else" / "s", [], [], {**preprocessing, "kmeans": {"name": "k", "sha256": "f" * 64}}
    )
    with pytest.raises(UserError, match="another codebook"):
        write(Prompt(tmp_path / "else", 3))
    other = write_other_codebook(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not the codebook of the model's units"):
        write(codebook=other)
    with pytest.raises(UserError, match="no such vocoder checkpoint"):
        write(checkpoint=tmp_path / "absent.pt", config=tmp_path / "config.json")
    with pytest.raises(UserError, match="not both"):
        write(codebook=codebook, checkpoint=tmp_path / "absent.pt")
    with pytest.raises(UserError, match="needs --vocoder-config"):
        write(checkpoint=tmp_path / "absent.pt")
    assert not (tmp_path / "out").exists()
