"""`speechscale kmeans` on the command line: learning, the quality report, and the import of a published codebook."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.units.codebook import load_codebook

HOW = Synthesis(engine="espeak-ng", voice="en-us", words_per_minute=300, seed=0)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    texts = [f"The {animal} sees {count} trees." for animal in ("dog", "cat", "bird") for count in range(3)]
    write_manifest(
        (
            Utterance(id=f"u{i}", dataset="d", split="train", transcript=text, synthesis=HOW)
            for i, text in enumerate(texts)
        ),
        tmp_path / "manifest.jsonl",
    )
    return tmp_path / "manifest.jsonl"


def test_codebook_is_learned_and_evaluated(manifest: Path) -> None:
    book = manifest.with_name("book.safetensors")
    done = CliRunner().invoke(app, ["kmeans", str(manifest), "--clusters", "30", "-o", str(book)])
    assert done.exit_code == 0, done.output
    assert "30 units learned from" in done.output and "PNMI" in done.output
    report = json.loads(manifest.with_name("book.quality.json").read_text())
    assert report["units_used"] == 30 and not report["held_out"]
    assert 0.4 < report["phones"]["normalised_mutual_information"] < 1


def test_published_codebook_is_imported(manifest: Path) -> None:
    frames = np.random.default_rng(0).standard_normal((200, 40)).astype(np.float32) - 4
    model = MiniBatchKMeans(8, n_init=1, random_state=0).fit(frames)
    published, book = manifest.with_name("km.bin"), manifest.with_name("book.safetensors")
    joblib.dump(model, published)
    command = ["kmeans", str(manifest), "--import", str(published), "-o", str(book), "--sha256"]
    refused = CliRunner().invoke(app, [*command, "0" * 64])
    assert refused.exit_code != 0 and "was not opened" in str(refused.exception)
    assert not book.exists()
    done = CliRunner().invoke(app, [*command, hashlib.sha256(published.read_bytes()).hexdigest()])
    assert done.exit_code == 0, done.output
    assert "8 units imported from" in done.output
    assert np.array_equal(load_codebook(book).centroids, model.cluster_centers_)
