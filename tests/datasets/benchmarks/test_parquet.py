"""Benchmarks in Parquet files, with both recordings of an item in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import prepare, prepare_refused, read_skips
from corpus_files import AUDIO_STRUCT, audio_bytes

from speechscale.datasets.benchmarks import detect_benchmark_layout
from speechscale.errors import SampleFault, UserError
from speechscale.speech.audio.decode import Recording
from speechscale.speech.audio.parquet_audio import ParquetAudioReader
from speechscale.speech.waveforms import load_waveforms


def write_parquet(
    path: Path, plain: dict[str, list[Any]], sounds: dict[str, list[bytes | None]], group: int = 2
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([{"bytes": data, "path": f"{name}.wav"} for data in values], type=AUDIO_STRUCT)
        for name, values in sounds.items()
    }
    pq.write_table(pa.table({**plain, **columns}), path, row_group_size=group)
    return path


def write_stories(path: Path, count: int = 5, **more: list[Any]) -> Path:
    """A file in the columns of slprl/multispeaker-storycloze; every recording has its own length."""
    return write_parquet(
        path,
        {
            "id": [f"story-{number}" for number in range(count)],
            "correct_text": [f"It rains {number}. He is wet." for number in range(count)],
            "negative_text": [f"It rains {number}. He is dry." for number in range(count)],
        }
        | more,
        {
            "correct_audio": [audio_bytes(0.1 + number / 100, 24_000, number) for number in range(count)],
            "negative_audio": [audio_bytes(0.5 + number / 100, 24_000, number) for number in range(count)],
        },
    )


def test_stories_of_several_voices_in_parquet(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "multispeaker-storycloze"
    for task in ("sSC", "tSC"):
        for voice in ("bm", "af"):
            write_stories(root / task / voice / "train-00000-of-00001.parquet")
    assert detect_benchmark_layout(root) == "parquet"
    result = prepare(root, out)
    assert result.summary.pairs == {("sstorycloze", ""): 10, ("tstorycloze", ""): 10}
    assert result.summary.groups == {("sstorycloze", ""): 5, ("tstorycloze", ""): 5}
    utterance = result.by_id["tstorycloze/story-3/bm/wrong"]
    assert (utterance.column, utterance.row, utterance.speaker) == ("negative_audio", 3, "bm")
    assert (utterance.duration, utterance.transcript) == (0.53, "It rains 3. He is dry.")
    assert result.labels[utterance.id].group_id == "story-3"
    waveforms = list(load_waveforms(result.utterances, root))
    assert [round(len(waveform) / 16_000, 2) for waveform in waveforms[:4]] == [0.1, 0.5, 0.11, 0.51]
    assert "sstorycloze: 2 voices, officially 4 (2 fewer)" in result.summary.notes
    one = prepare(root / "sSC" / "bm", tmp_path / "one")
    assert one.summary.pairs == {("sstorycloze", ""): 5} and one.utterances[0].speaker == "bm"
    file = prepare(root / "sSC" / "af" / "train-00000-of-00001.parquet", tmp_path / "file")
    assert file.utterances[0].id == "sstorycloze/story-0/af/correct"


def test_both_columns_of_a_row_group_are_read_once(tmp_path: Path, out: Path, monkeypatch: Any) -> None:
    """Members of a pair are in two columns of a row; alternating between them must not read the group again."""
    from speechscale.speech.audio import parquet_audio

    result = prepare(write_stories(tmp_path / "sSC" / "bm" / "a.parquet", 6), out)
    passes = []
    read = parquet_audio.iter_row_group
    monkeypatch.setattr(parquet_audio, "iter_row_group", lambda *args: passes.append(args[2:]) or read(*args))
    assert all(len(waveform) for waveform in load_waveforms(result.utterances, tmp_path / "sSC" / "bm"))
    assert sorted(passes) == sorted(
        (g, [f"{c}_audio.bytes"]) for g in range(3) for c in ("correct", "negative")
    )


def test_voices_in_a_column(tmp_path: Path, out: Path) -> None:
    write_stories(tmp_path / "tSC" / "train.parquet", 2, speaker=["x", "y"])
    result = prepare(tmp_path / "tSC", out)
    assert set(result.pairs) == {"story-0/x", "story-1/y"}


def test_voices_without_a_name_are_not_mixed_up(tmp_path: Path, out: Path) -> None:
    for file in ("a", "b"):
        write_stories(tmp_path / "tSC" / f"{file}.parquet", 2)
    with pytest.raises(UserError, match="2 of 2 pairs cannot be used: 2 listed twice"):
        prepare(tmp_path / "tSC", out)


def test_files_without_pairs_and_rows_without_audio(tmp_path: Path, out: Path) -> None:
    path = write_stories(tmp_path / "sSC" / "bm" / "a.parquet", 3)
    table = pq.read_table(path)
    empty = pa.array(
        [{"bytes": None, "path": None}, *table["negative_audio"].to_pylist()[1:]], type=AUDIO_STRUCT
    )
    ids = pa.array(["story-0", "story-1", None])
    pq.write_table(table.set_column(4, "negative_audio", empty).set_column(0, "id", ids), path)
    message, skips, remaining = prepare_refused(path, out)
    assert {skip.reason for skip in skips} == {"no audio", "bad entry"} and set(remaining.pairs) == {
        "story-1/bm"
    }
    assert "row 0 (negative_audio): a.parquet: row 0 has no audio bytes" in message
    pq.write_table(table.drop_columns(["negative_audio"]), path)
    with pytest.raises(UserError, match=r"no pairs by its columns; found id, correct_text.*wanted one of id"):
        prepare(path, out)
    pq.write_table(table.set_column(4, "negative_audio", pa.array(["a.wav"] * 3)), path)
    with pytest.raises(UserError, match="3 of 3 pairs cannot be used"):
        prepare(path, out, incomplete=True)
    skips = read_skips(out / "manifest.skips.jsonl")
    assert {skip.reason for skip in skips} == {"no audio"}
    assert "'negative_audio' holds no audio" in skips[0].detail


def test_audio_is_read_from_the_named_column(tmp_path: Path) -> None:
    path = write_stories(tmp_path / "a.parquet", 2)
    with Recording(ParquetAudioReader(path, "a", "negative_audio").read(1), "a") as recording:
        assert recording.num_samples / recording.sample_rate == 0.51
    with pytest.raises(SampleFault, match="the column 'audio' holds no audio bytes"):
        ParquetAudioReader(path, "a", "audio")


def test_salmon_in_parquet(tmp_path: Path, out: Path) -> None:
    for part in ("bg_alignment", "gender_consistency"):
        write_parquet(
            tmp_path / "SALMon" / part / "train-00000-of-00001.parquet",
            {"task": [part] * 3, "ind": [0, 1, 2]},
            {f"{side}_audio": [audio_bytes(0.06)] * 3 for side in ("positive", "negative")},
        )
    result = prepare(tmp_path / "SALMon", out)
    assert set(result.pairs) == {f"{p}/{i}" for p in ("bg_alignment", "gender_consistency") for i in range(3)}
    correct, wrong = result.pairs["gender_consistency/1"]
    assert (correct.column, wrong.column, correct.row) == ("positive_audio", "negative_audio", 1)
    assert result.labels[correct.id].condition == "gender_consistency"
