"""A random model of ten log-mel units: its codebook, its export and labelled shards of its units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from random_models import random_transformer

from speechscale.model.interchange import ModelUnits, export_model
from speechscale.model.shape import ModelShape
from speechscale.records.seal import sha256_file
from speechscale.records.shards import Sample, vocabulary_of, write_shard
from speechscale.units.codebook import Codebook, save_codebook
from speechscale.units.mel import MelEncoder, MelSpec

SHAPE = ModelShape(layers=2, dim=32, heads=2, vocabulary=12, context=64, hidden_multiple=16)
EOS = SHAPE.eos


def write_codebook(path: Path) -> Path:
    """Ten units of random spectra."""
    centroids = np.random.default_rng(0).standard_normal((10, 40)).astype(np.float32)
    save_codebook(Codebook(centroids, np.full(40, -3, np.float32), 1.0, MelEncoder(MelSpec()).identity), path)
    return path


def write_other_codebook(path: Path, units: int = 10) -> Path:
    """A codebook that is not the model's."""
    centroids = np.ones((units, 40), np.float32)
    save_codebook(Codebook(centroids, np.zeros(40, np.float32), 1.0, {"name": "mel"}), path)
    return path


def write_foreign_model(folder: Path) -> Path:
    """The model in the format of the release, which does not name its units."""
    export_model(random_transformer(SHAPE, 0.1), folder, "official", ModelUnits())
    return folder


def write_labelled_shards(folder: Path, codebook: Path) -> Path:
    """Twenty pairs of eight random units, which last one to three frames each."""
    preprocessing = {
        **vocabulary_of(10),
        "unit_extractor": MelEncoder(MelSpec()).identity,
        "kmeans": {"name": "book", "sha256": sha256_file(codebook)},
    }
    rng = np.random.default_rng(0)
    samples = []
    for item in range(20):
        for member in ("correct", "wrong"):
            units = np.append(rng.integers(0, 10, 8), EOS).astype(np.int16)
            label = {"task": "t", "group_id": str(item), "pair_id": str(item), "correct": member == "correct"}
            durations = np.append(rng.integers(1, 4, 8), 0)
            row = {"speaker": "v", "extra": label}
            samples.append(Sample(f"{item}-{member}", units, 1.0, row, durations))
    write_shard(folder / "shard-0", samples, [], preprocessing)
    return folder
