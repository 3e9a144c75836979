"""The command `speechscale train`: alone, on a mixture, under torchrun, and with input that does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_shards import PREPROCESSING

from speechscale.records.runs import read_record
from speechscale.records.shards import Sample, write_shard

BIN = Path(sys.executable).parent
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
        write_shard(tmp_path / name / "shard-0", samples, [], PREPROCESSING)
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


def run_command(
    folder: Path, arguments: str, expect: int = 0, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*before, BIN / "speechscale", *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stderr
    return done


def test_one_corpus_and_a_mixture(folder: Path) -> None:
    one = run_command(folder, "train run.toml --shards train --test test -o one")
    assert "1,280 tokens seen" in one.stdout and one.stderr == ""
    record = read_record(folder / "one" / "record.json")
    assert (record.schedule, record.warmup_steps, record.flops_spent) == ("cosine", 1, record.flops)
    mixture = "--shards train --weight 3 --shards more --weight 1"
    run_command(folder, f"train run.toml {mixture} --test test -o two")
    assert read_record(folder / "two" / "record.json").loss != record.loss
    refused = run_command(folder, "train run.toml --shards train --test train -o three", expect=1)
    assert "is not held out" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_torchrun_prints_and_writes_once(folder: Path) -> None:
    run_command(folder, "train run.toml --shards train --test test -o one")
    torchrun = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python")
    two = run_command(folder, "train run.toml --shards train --test test -o two", before=torchrun)
    assert two.stdout.count("tokens seen") == 1
    alone, shared = (read_record(folder / name / "record.json") for name in ("one", "two"))
    assert shared.loss == pytest.approx(alone.loss, abs=1e-6)
