"""`speechscale eval prepare` on the command line: from a folder of wavs to shards that can be scored."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_files import audio, noise
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.evals.tasks import read_pairs
from speechscale.records.shards import open_shards
from speechscale.units.codebook import save_codebook
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

STORIES = ("s1", "s2", "s3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tStoryCloze as released; every recording differs."""
    for number, story in enumerate(STORIES):
        for place, label in enumerate(("correct", "incorrect")):
            wav = tmp_path / "tSC" / f"{2 * number + place}_{story}_{label}.wav"
            audio(wav, seed=2 * number + place)
    return tmp_path / "tSC"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    encoder = MelEncoder(MelSpec())
    frames = encoder.encode([noise(0.5, seed=100)[:, 0]])[0]
    save_codebook(
        train_kmeans(frames, KMeansSpec(clusters=5), encoder.identity), tmp_path / "book.safetensors"
    )
    return tmp_path / "book.safetensors"


def run_prepare(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["eval", "prepare", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_download_becomes_pairs_of_units(folder: Path, book: Path, tmp_path: Path) -> None:
    out = tmp_path / "work" / "tsc"
    output = run_prepare(folder, "-o", out, "--code-book", book, "--workers", 1)
    assert "tstorycloze 3 pairs of recordings of 3 items" in output and "(storycloze layout)" in output
    assert "Note: tstorycloze: 3 items, officially 1,871 (1,868 fewer)." in output
    assert "6 utterances" in output
    unpaired: list[str] = []
    pairs = list(read_pairs(open_shards(out / "units"), unpaired))
    assert sorted(pair.pair_id for pair in pairs) == list(STORIES) and not unpaired
    shard = out / "units" / "shard-00000" / "meta.json"
    made = shard.stat().st_mtime_ns
    run_prepare(folder, "-o", out, "--code-book", book, "--workers", 1)
    assert shard.stat().st_mtime_ns == made  # the same manifest, so the shards are kept


def test_without_a_codebook_the_next_command_is_printed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tsc"
    assert f"speechscale encode {out / 'manifest.jsonl'} --root {folder}" in run_prepare(folder, "-o", out)
    assert not (out / "units").exists()


def test_an_unpaired_story_stops_the_command(folder: Path, tmp_path: Path) -> None:
    (folder / "1_s1_incorrect.wav").unlink()
    out = tmp_path / "tsc"
    with pytest.raises(
        ValueError, match=r"1 of 3 pairs cannot be used: 1 unpaired \(tstorycloze/s1: only its"
    ):
        run_prepare(folder, "-o", out)
    assert "2 pairs of recordings of 2 items" in (output := run_prepare(folder, "-o", out, "--incomplete"))
    assert "1 left out: 1 unpaired" in output
