"""Foreign units to tokens to a trained model, through the installed command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from speechscale.records.runs import read_record
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shards

COMMAND = Path(sys.executable).with_name("speechscale")
RUN = """
run = "tokens"
series = "speech-unigram"
layers = 1
dim = 16
heads = 1
hidden_multiple = 16
context = 32
batch = 4
tokens = 1_000
curve = 0
"""


def speechscale(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stderr
    return done


def features(path: Path, count: int, seed: int) -> Path:
    """slamkit's features.jsonl: words of five units, each unit a frame or two."""
    rng = np.random.default_rng(seed)
    words = np.random.default_rng(0).permutation(20).reshape(4, 5)
    with path.open("w") as stream:
        for number in range(count):
            units = words[rng.integers(4, size=10)].ravel()
            units = units[np.flatnonzero(np.diff(units, prepend=-1))]
            row = {"units": units.tolist(), "duration": rng.integers(1, 3, len(units)).tolist()}
            stream.write(json.dumps({**row, "file_name": f"{seed}/{number}.flac"}) + "\n")
    return path


def test_foreign_units_become_tokens_and_a_trained_model(tmp_path: Path) -> None:
    units, tokens = tmp_path / "units", tmp_path / "tokens"
    for part, count, seed in (("train", 60, 1), ("test", 10, 2)):
        source = features(tmp_path / f"{part}.jsonl", count, seed)
        converted = speechscale(
            *("convert", source, "--from", "slamkit", "--clusters", 20, "--frame-rate", 25),
            *("--units-per-shard", 1000, "-o", units / part),
        )
        assert f"{count} utterances, 0.0" in converted.stdout and converted.stderr == ""
    command = ("unigram", units / "train", "--vocabulary", 40, "--workers", 2, "-o", tokens / "train")
    first = speechscale(*command)
    assert "40 tokens, trained on" in first.stdout and "units per token" in first.stdout
    assert first.stderr == ""
    assert "trained before" in speechscale(*command).stdout
    speechscale("unigram", units / "test", "--model", tokens / "train" / "unigram", "-o", tokens / "test")
    for shard in open_shards(tokens / "train") + open_shards(tokens / "test"):
        verify_shard(shard.folder)
    (tmp_path / "run.toml").write_text(RUN)
    speechscale(
        *("train", tmp_path / "run.toml", "--shards", tokens / "train", "--test", tokens / "test"),
        *("-o", tmp_path / "run"),
    )
    record = read_record(tmp_path / "run" / "record.json")
    assert record.status == "done" and record.loss is not None and record.bits_per_second is not None
    test = open_shards(tokens / "test")
    count, seconds = sum(s.meta.num_audio_steps for s in test), sum(s.seconds or 0.0 for s in test)
    frames = sum(sum(json.loads(line)["duration"]) for line in (tmp_path / "test.jsonl").open())
    assert np.isclose(seconds, frames / 25)
    assert np.isclose(record.bits_per_second, record.loss * count / np.log(2) / seconds)
    mixed = speechscale(
        *("train", tmp_path / "run.toml", "--shards", tokens / "train", "--test", units / "test"),
        *("-o", tmp_path / "mixed"),
        expect=1,
    )
    assert "encoded differently: eos_token: found 20, wanted 40" in mixed.stderr
    scored = speechscale("eval", "run", tmp_path / "run", "--benchmarks", units / "test", expect=1)
    assert "was trained on other tokens than the shards hold" in scored.stderr


def test_conversion_is_reversible_and_errors_are_one_line(tmp_path: Path) -> None:
    source = features(tmp_path / "f.jsonl", 5, 1)
    speechscale("convert", source, "--from", "slamkit", "--clusters", 20, "-o", tmp_path / "units")
    speechscale("convert", tmp_path / "units", "--to", "slamkit", "-o", tmp_path / "back.jsonl")
    assert [json.loads(line) for line in (tmp_path / "back.jsonl").open()] == [
        json.loads(line) for line in source.open()
    ]
    speechscale("convert", tmp_path / "units", "--to", "fairseq", "--frames", "-o", tmp_path / "frames.txt")
    row = json.loads(source.open().readline())
    expected = " ".join(map(str, np.repeat(row["units"], row["duration"])))
    assert (tmp_path / "frames.txt").open().readline() == f"1/0.flac|{expected}\n"
    refused = [
        (("convert", source, "-o", tmp_path / "x"), "give either --from"),
        (("convert", source, "--from", "slamkit", "-o", tmp_path / "x"), "give --clusters"),
        (("unigram", tmp_path / "units", "-o", tmp_path / "x"), "too small for 5000 tokens"),
        (("unigram", tmp_path / "units", "--model", tmp_path, "-o", tmp_path / "x"), "no seal.json here"),
    ]
    for arguments, message in refused:
        error = speechscale(*arguments, expect=1).stderr
        assert message in error and error.count("\n") == 1, error
