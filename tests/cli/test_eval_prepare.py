"""`speechscale eval prepare` as it is typed: from a folder of wavs to shards that can be scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.evals.tasks import read_pairs
from speechscale.records.shards import open_shards
from speechscale.units.codebook import save_codebook
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

STORIES = ("s1", "s2", "s3")


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, 8000).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tStoryCloze in its own layout; every recording differs."""
    for number, story in enumerate(STORIES):
        for place, label in enumerate(("correct", "incorrect")):
            wav = tmp_path / "tSC" / f"{2 * number + place}_{story}_{label}.wav"
            wav.parent.mkdir(exist_ok=True)
            soundfile.write(wav, noise(2 * number + place), 16_000, subtype="FLOAT")
    return tmp_path / "tSC"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    encoder = MelEncoder(MelSpec())
    frames = encoder.encode([noise(100)])[0]
    save_codebook(
        train_kmeans(frames, KMeansSpec(clusters=5), encoder.identity), tmp_path / "book.safetensors"
    )
    return tmp_path / "book.safetensors"


def typed(*words: object) -> str:
    done = CliRunner().invoke(app, ["eval", "prepare", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_from_a_download_to_pairs_of_units(folder: Path, book: Path, tmp_path: Path) -> None:
    out = tmp_path / "work" / "tsc"
    said = typed(folder, "-o", out, "--code-book", book, "--workers", 1)
    assert "tstorycloze 3 pairs of recordings of 3 items" in said and "(storycloze layout)" in said
    assert "Note: tstorycloze: 3 items, officially 1,871 (1,868 fewer)." in said
    assert "6 utterances" in said
    unpaired: list[str] = []
    pairs = list(read_pairs(open_shards(out / "units"), unpaired))
    assert sorted(pair.pair_id for pair in pairs) == list(STORIES) and not unpaired
    shard = out / "units" / "shard-00000" / "meta.json"
    made = shard.stat().st_mtime_ns
    typed(folder, "-o", out, "--code-book", book, "--workers", 1)
    assert shard.stat().st_mtime_ns == made  # the same manifest again, so the shards stand


def test_a_manifest_alone_says_what_comes_next(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tsc"
    assert f"speechscale encode {out / 'manifest.jsonl'} --root {folder}" in typed(folder, "-o", out)
    assert not (out / "units").exists()


def test_a_story_without_its_twin_stops_the_command(folder: Path, tmp_path: Path) -> None:
    (folder / "1_s1_incorrect.wav").unlink()
    out = tmp_path / "tsc"
    with pytest.raises(
        ValueError, match=r"1 of 3 pairs cannot be used: 1 without twin \(tstorycloze/s1: only its"
    ):
        typed(folder, "-o", out)
    assert "2 pairs of recordings of 2 items" in (said := typed(folder, "-o", out, "--incomplete"))
    assert "1 left out: 1 without twin" in said
