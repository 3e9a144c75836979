"""Corpora as the tests lay them out, and what listing them gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from speechscale.datasets.corpora import open_corpus
from speechscale.datasets.corpora.listing import Listed, list_corpus
from speechscale.datasets.corpora.splits import Splitting
from speechscale.records.manifest import Utterance, read_manifest

AUDIO_STRUCT = pa.struct(
    [("bytes", pa.binary()), ("path", pa.string())]
)  # the `Audio` feature of Hugging Face


def noise(seconds: float, rate: int = 16_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    return (
        np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)
    )


def audio(path: Path, seconds: float = 0.5, rate: int = 16_000, seed: int = 0, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".opus":
        how = {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(path, noise(seconds, rate, seed), rate, **how)
    return path


def audio_bytes(seconds: float = 0.5, rate: int = 16_000, seed: int = 0, container: str = "WAV") -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, noise(seconds, rate, seed), rate, format=container)
    return buffer.getvalue()


def lines(path: Path, rows: Iterable[Any]) -> Path:
    """JSON Lines; what is a string stands as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def parquet(path: Path, columns: dict[str, Any], *, sounds: list[bytes | None], group: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([{"bytes": data, "path": None} for data in sounds], type=AUDIO_STRUCT)
    pq.write_table(pa.table({"audio": column, **columns}), path, row_group_size=group)
    return path


class Result:
    """What a manifest and its list of skips say."""

    def __init__(self, listed: Listed, out: Path, root: Path) -> None:
        self.listed, self.root, self.path = listed, root, out
        self.utterances = list(read_manifest(out))
        self.skips = [json.loads(line) for line in listed.skips.read_text().splitlines()]
        self.of: Callable[[str], Utterance] = {u.id: u for u in self.utterances}.__getitem__

    @property
    def ids(self) -> list[str]:
        return [utterance.id for utterance in self.utterances]

    def split(self, name: str) -> set[str]:
        return {utterance.id for utterance in self.utterances if utterance.split == name}

    @property
    def reasons(self) -> dict[str, str]:
        return {skip["id"]: skip["reason"] for skip in self.skips}


def listed(path: Path, out: Path, splitting: Splitting = Splitting(), **how: Any) -> Result:  # noqa: B008
    corpus = open_corpus(path, **how)
    return Result(list_corpus(corpus, splitting, out), out, corpus.root)
