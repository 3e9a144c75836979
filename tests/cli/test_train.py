"""`speechscale train` as it is typed: alone, under torchrun, on a mixture, and with input that does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechscale.records.runs import read_record
from speechscale.records.shards import Sample, write_shard

BIN = Path(sys.executable).parent
MADE = {
    "vocab_size": 18,
    "eos_token": 16,
    "pad_token": 17,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "k", "sha256": "k"},
}
RUN = """
run = "tiny"
layers = 1
dim = 16
heads = 2
hidden_multiple = 8
context = 32
batch = 4
tokens = 1280
precision = "float32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("train", "more", "test")):
        rng = np.random.default_rng(number)
        samples = [
            Sample(f"{name}{k}", np.append(rng.integers(0, 16, 20), 16).astype(np.int16), 1.0, {})
            for k in range(30)
        ]
        write_shard(tmp_path / name / "shard-0", samples, [], MADE)
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


def typed(
    folder: Path, words: str, expect: int = 0, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*before, BIN / "speechscale", *words.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stderr
    return done


def test_a_run_and_a_mixture(folder: Path) -> None:
    one = typed(folder, "train run.toml --shards train --test test -o one")
    assert "1,280 tokens seen" in one.stdout and one.stderr == ""
    record = read_record(folder / "one" / "record.json")
    assert (record.schedule, record.warmup_steps, record.flops_spent) == ("cosine", 1, record.flops)
    mixture = "--shards train --weight 3 --shards more --weight 1"
    typed(folder, f"train run.toml {mixture} --test test -o two")
    assert read_record(folder / "two" / "record.json").loss != record.loss
    refused = typed(folder, "train run.toml --shards train --test train -o three", expect=1)
    assert "is not held out" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_under_torchrun_it_tells_and_writes_once(folder: Path) -> None:
    typed(folder, "train run.toml --shards train --test test -o one")
    torchrun = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python")
    two = typed(folder, "train run.toml --shards train --test test -o two", before=torchrun)
    assert two.stdout.count("tokens seen") == 1
    alone, shared = (read_record(folder / name / "record.json") for name in ("one", "two"))
    assert shared.loss == pytest.approx(alone.loss, abs=1e-6)
