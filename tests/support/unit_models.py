"""A random unit language model and labelled shards of its units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from preprocessing import preprocessing_of
from random_models import random_transformer

from speechscale.model.interchange import ModelUnits, export_model
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.shards import Sample, open_shards, write_shard

EOS = 10
ENCODING = preprocessing_of(EOS, codebook="book", collapsed=True)


def write_labelled_shards(folder: Path) -> Path:
    """Two shards with 12 items of task "t" by 2 voices; the last member of the last shard is missing."""
    rng = np.random.default_rng(0)
    samples = []
    for item in range(12):
        for voice in ("v", "w"):
            for correct in (True, False):
                label = {"task": "t", "group_id": str(item), "pair_id": f"{item}/{voice}", "voice": voice}
                units = np.append([item % 10, *rng.integers(0, 10, 8)], EOS).astype(np.int16)
                row = {"dataset": "ab"[item % 2], "extra": label | {"correct": correct}}
                samples.append(Sample(f"{item}-{voice}-{correct}", units, 2.0, row))
    rng.shuffle(samples)  # type: ignore[arg-type]
    write_shard(folder / "s0", samples[:20], [], ENCODING)
    write_shard(folder / "s1", samples[20:-1], [], ENCODING)  # one member is missing
    return folder


def export_release(folder: Path) -> Transformer:
    """A random model in the layout of the study's release."""
    shape = ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
    model = random_transformer(shape, 0.2)
    export_model(model, folder, "official", ModelUnits())
    return model


def units_of(shards: Path) -> dict[str, list[int]]:
    """Units of every sample by id, without EOS."""
    return {
        row["id"]: units[:-1].tolist()
        for shard in open_shards(shards)
        for row, units in zip(shard.rows(), shard.samples(), strict=True)
    }
