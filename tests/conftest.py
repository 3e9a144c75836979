"""Fixtures: a codebook, and tasks for shards of noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tricks import hear_noise, list_utterances

from speechscale.records.manifest import read_manifest
from speechscale.units.codebook import save_codebook
from speechscale.units.encode import ShardTask, plan_shards
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource

Plan = Callable[..., list[ShardTask]]


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    encoder = MelEncoder(MelSpec())
    listed = list_utterances(tmp_path / "k.jsonl", "k1", "k2")
    frames = encoder.encode(list(hear_noise(list(read_manifest(listed)), tmp_path)))
    path = tmp_path / "book.safetensors"
    save_codebook(train_kmeans(frames[0], KMeansSpec(clusters=8), encoder.identity), path)
    return path


@pytest.fixture
def plan(tmp_path: Path, codebook: Path) -> Plan:
    """Shards of two utterances each, in the folder that is named first."""

    def planned(out: str, *names: str) -> list[ShardTask]:
        listed = list_utterances(tmp_path / f"{'-'.join(names)[:40]}.jsonl", *names)
        source = SpeechSource(listed, tmp_path, hear_noise)
        return plan_shards(source, codebook, tmp_path / out, seconds=2.0)

    return planned
