"""Helpers for tests of corpora: audio files, lists of them, and listed corpora."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from speechscale.datasets.corpora import open_corpus
from speechscale.datasets.corpora.corpus_manifest import CorpusSummary, write_corpus_manifest
from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.records.manifest import Utterance, read_manifest

# The `Audio` feature of Hugging Face.
AUDIO_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def noise(seconds: float, rate: int = 16_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    return (
        np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)
    )


def audio(path: Path, seconds: float = 0.5, rate: int = 16_000, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, noise(seconds, rate, seed), rate, **encoding)
    return path


def audio_bytes(seconds: float = 0.5, rate: int = 16_000, seed: int = 0, container: str = "WAV") -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, noise(seconds, rate, seed), rate, format=container)
    return buffer.getvalue()


def lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write JSON Lines; a row that is a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def csv_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def parquet(path: Path, columns: dict[str, Any], *, sounds: list[bytes | None], group: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([{"bytes": data, "path": None} for data in sounds], type=AUDIO_STRUCT)
    pq.write_table(pa.table({"audio": column, **columns}), path, row_group_size=group)
    return path


class ListedCorpus:
    """The manifest of a corpus and its list of skips."""

    def __init__(self, summary: CorpusSummary, root: Path) -> None:
        self.summary, self.root, self.path = summary, root, summary.manifest
        self.utterances = list(read_manifest(summary.manifest))
        self.skips = [json.loads(line) for line in summary.skips.read_text().splitlines()]
        self.by_id: dict[str, Utterance] = {u.id: u for u in self.utterances}

    @property
    def ids(self) -> list[str]:
        return [utterance.id for utterance in self.utterances]

    def ids_of_split(self, name: str) -> set[str]:
        return {utterance.id for utterance in self.utterances if utterance.split == name}

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons of skips, by id."""
        return {skip["id"]: skip["reason"] for skip in self.skips}


def list_corpus(path: Path, out: Path, splits: SplitOptions | None = None, **options: Any) -> ListedCorpus:
    """The manifest of a corpus; `options` are those of `open_corpus`."""
    source = open_corpus(path, **options)
    return ListedCorpus(write_corpus_manifest(source, splits or SplitOptions(), out), source.root)
