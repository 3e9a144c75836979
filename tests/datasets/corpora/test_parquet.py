"""Parquet files that contain the audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import audio_bytes, list_corpus, noise, parquet

from speechscale.datasets.corpora import detect_corpus_layout
from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.errors import SampleFault
from speechscale.speech.waveforms import load_waveforms

NO_DRAW = SplitOptions(test_share=0)


def words(text: str) -> list[dict]:
    return [{"word": w, "start_time": k / 4, "end_time": k / 4 + 0.2} for k, w in enumerate(text.split())]


def test_files_of_the_hugging_face_hub(tmp_path: Path, out: Path) -> None:
    """sTinyStories: audio as a struct, text, aligned words; many files, whose names say the split."""
    folder = tmp_path / "sTinyStories"
    for number in range(2):
        texts = [f"Once upon {number} {k}" for k in range(5)]
        parquet(
            folder / "data" / f"train-{number:05d}-of-00002.parquet",
            {
                "text": texts,
                "aligned_text": [words(text) for text in texts],
                "score": [0.5] * 5,
                "blob": [b"x"] * 5,
            },
            sounds=[audio_bytes(0.1 * (k + 1), seed=10 * number + k, container="FLAC") for k in range(5)],
            group=2,
        )
    result = list_corpus(folder, out, NO_DRAW)
    assert detect_corpus_layout(folder) == "parquet"
    assert [u.duration for u in result.utterances] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5] * 2)
    last = result.utterances[-1]
    assert (last.audio, last.row, last.split) == ("data/train-00001-of-00002.parquet", 4, "train")
    assert last.id == "sTinyStories/data/train-00001-of-00002/4" and last.transcript == "Once upon 1 4"
    assert last.extra == {"aligned_text": words("Once upon 1 4"), "score": 0.5}
    for k, waveform in enumerate(load_waveforms(result.utterances, result.root)):
        original = noise(0.1 * (k % 5 + 1), seed=10 * (k // 5) + k % 5)[:, 0]
        assert len(waveform) == len(original) and np.abs(waveform - original).max() < 2 / 2**15
    backwards = list(load_waveforms(result.utterances[::-1], result.root))
    assert [len(waveform) for waveform in backwards] == [8000, 6400, 4800, 3200, 1600] * 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_binary_column_and_ids(tmp_path: Path, out: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {
            "id": ["x", "y"],
            "sound": pa.array([audio_bytes(), audio_bytes(1.0)], type=kind),
            "speaker_id": [19, 84],
            "split": ["train.clean", "validation"],
            "book": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    first, second = list_corpus(tmp_path / "c.parquet", out).utterances
    assert (first.id, first.speaker, first.split, first.extra) == ("c/x", "19", "train", {"book": "a"})
    assert (second.id, second.speaker, second.split, second.duration) == ("c/y", "84", "dev", 1.0)


def test_rows_in_order_are_read_in_one_pass(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(
        tmp_path / "c.parquet", {}, sounds=[audio_bytes(0.05, seed=k) for k in range(40)], group=20
    )
    result = list_corpus(path, out, NO_DRAW)
    passes = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **how: passes.append(how["row_groups"]) or real(*a, **how)
    )
    assert all(
        isinstance(waveform, np.ndarray) for waveform in load_waveforms(result.utterances, result.root)
    )
    assert passes == [[0], [1]]


def test_a_missing_row(tmp_path: Path, out: Path) -> None:
    path = parquet(tmp_path / "c.parquet", {}, sounds=[audio_bytes()])
    (utterance,) = list_corpus(path, out).utterances
    (fault,) = load_waveforms([utterance.model_copy(update={"row": 1})], tmp_path)
    assert isinstance(fault, SampleFault) and fault.reason == "missing" and "has 1 rows" in fault.detail


def test_a_damaged_row_group_loses_only_its_own_rows(tmp_path: Path, out: Path) -> None:
    path = parquet(tmp_path / "c.parquet", {}, sounds=[audio_bytes(seed=k) for k in range(6)], group=2)
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 200] = bytes(200)
    path.write_bytes(data)
    result = list_corpus(path, out, NO_DRAW)
    assert [u.row for u in result.utterances] == [0, 1, 4, 5]
    assert result.reasons == {"c/c/2": "corrupt", "c/c/3": "corrupt"}
    utterances = [result.utterances[0].model_copy(update={"row": row, "id": str(row)}) for row in range(6)]
    is_readable = [isinstance(one, np.ndarray) for one in load_waveforms(utterances, tmp_path)]
    assert is_readable == [True, True, False, False, True, True]
