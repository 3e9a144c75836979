"""Training: golden losses, bit-exact resuming, divergence on record, and a test loss that is what it says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from speechscale.compute import choose_dtype
from speechscale.errors import UserError
from speechscale.records.runs import write_record
from speechscale.records.shards import Sample, Shard, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.train import trainer
from speechscale.train.checkpoint import MODEL, checkpoints, load_model
from speechscale.train.loop import train_run
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import Trainer
from speechscale.train.validate import read_test_loss

# Losses of the first ten steps of the tiny run, float32, one thread; a refactoring must leave them.
GOLDEN = [2.922591, 2.788677, 2.657177, 2.555276, 2.456926, 2.366518, 2.325846, 2.270818, 2.265326, 2.243851]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_golden_losses_of_ten_steps(spec: RunSpec, shards: list[Shard]) -> None:
    made = Trainer(spec, 18, Windows(shards, spec.context))
    losses = [made.update(step) for step in range(10)]
    assert losses == pytest.approx(GOLDEN, abs=1e-5)
    assert losses[0] == pytest.approx(math.log(18), abs=0.1)  # an untrained model guesses


def test_learning_beats_guessing(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    longer = spec.model_copy(update={"tokens": 60 * 4 * 32})
    record = train_run(longer, shards, test_shards, tmp_path / "run")
    assert (
        record.loss is not None and record.loss < 1.5
    )  # the counter's own entropy is about 0.6, guessing 2.9
    assert record.loss < record.curve[0].loss
    assert [point.step for point in record.curve] == [15, 30, 60]
    assert (record.tokens, record.params) == (60 * 4 * 32, longer.shape(18).params)
    assert record.epochs == pytest.approx(record.tokens / Windows(shards, 32).unique_tokens)


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("stop_at", [1, 3, 4, 9])
def test_resumed_equals_uninterrupted_bit_for_bit(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path, stop_at: int
) -> None:
    whole = train_run(spec, shards, test_shards, tmp_path / "whole")

    def stop(done: int, _: int) -> None:
        if done == stop_at:
            raise Stop

    with pytest.raises(Stop):
        train_run(spec, shards, test_shards, tmp_path / "parts", stop)
    parts = train_run(spec, shards, test_shards, tmp_path / "parts")
    assert (parts.loss, parts.curve) == (whole.loss, whole.curve)
    ours, theirs = load_file(tmp_path / "parts" / MODEL), load_file(tmp_path / "whole" / MODEL)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not checkpoints(tmp_path / "parts")


def test_a_checkpoint_of_another_run_is_refused_by_field(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        train_run(spec, shards, test_shards, tmp_path / "run", stop)
    other = spec.model_copy(update={"peak_lr": 2e-2})
    with pytest.raises(UserError, match=r"spec\.peak_lr: found 0\.01, wanted 0\.02"):
        train_run(other, shards, test_shards, tmp_path / "run")
    max(checkpoints(tmp_path / "run").items())[1].write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="not a checkpoint"):
        train_run(spec, shards, test_shards, tmp_path / "run")


def test_a_finished_run_is_kept_and_never_overwritten_by_another(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    record = train_run(spec, shards, test_shards, tmp_path / "run")
    before = (tmp_path / "run" / MODEL).stat().st_mtime_ns
    assert train_run(spec, shards, test_shards, tmp_path / "run") == record
    assert (tmp_path / "run" / MODEL).stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"spec\.seed: found 0, wanted 1"):
        train_run(spec.model_copy(update={"seed": 1}), shards, test_shards, tmp_path / "run")


def test_test_speech_of_another_code_book_is_refused(
    spec: RunSpec, shards: list[Shard], tmp_path: Path
) -> None:
    made = {**shards[0].preprocessing, "kmeans": {"name": "other", "sha256": "other"}}
    write_shard(tmp_path / "other" / "shard-0", shards_samples(shards), [], made)
    with pytest.raises(UserError, match=r"encoded differently: kmeans\.name: found 'other', wanted 'k'"):
        train_run(spec, shards, open_shards(tmp_path / "other"), tmp_path / "run")


def shards_samples(shards: list[Shard]) -> list[Sample]:
    return [Sample(str(i), units, 1.0, {}) for i, units in enumerate(shards[0].samples())]


def test_a_run_that_stops_being_finite_is_recorded_before_the_update(
    spec: RunSpec,
    shards: list[Shard],
    test_shards: list[Shard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "learning_rate", lambda *_: float("1e30"))
    record = train_run(spec, shards, test_shards, tmp_path / "run")
    assert record.status == "diverged" and record.loss is None
    assert record.note.startswith("step ")
    assert not (tmp_path / "run" / MODEL).exists()


@pytest.mark.parametrize(("steps", "curve", "where"), [(2, 1, "step 1"), (1, 0, "step 1")])
def test_a_test_loss_that_is_no_number_is_a_divergence(
    spec: RunSpec,
    shards: list[Shard],
    test_shards: list[Shard],
    tmp_path: Path,
    steps: int,
    curve: int,
    where: str,
) -> None:
    """Loss and gradient of step 0 are finite, the weights after it are not: on the way, and at the end."""
    wild = spec.model_copy(update={"peak_lr": 1e38, "tokens": steps * 4 * 32, "curve": curve})
    record = train_run(wild, shards, test_shards, tmp_path / "run")
    assert (record.status, record.loss, record.curve) == ("diverged", None, ())
    assert record.note == f"{where}: test loss nan"
    assert not (tmp_path / "run" / MODEL).exists()
    write_record(record, tmp_path / "run" / "record.json")


def test_test_loss_is_token_weighted_and_counts_every_token_once(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard]
) -> None:
    model = Trainer(spec, 18, Windows(shards, spec.context)).model
    found = read_test_loss(model, test_shards, torch.float32)
    total, count, seconds = 0.0, 0, 0.0
    with torch.no_grad():
        for units, row in zip(test_shards[0].samples(), test_shards[0].rows(), strict=True):
            tokens = torch.tensor([16, *units.tolist()])
            log_p = model(tokens[None, :-1])[0].log_softmax(-1)
            total -= log_p[torch.arange(len(units)), tokens[1:]].sum().item()
            count, seconds = count + len(units), seconds + row["seconds"]
    assert found.tokens == count
    assert found.loss == pytest.approx(total / count, rel=1e-5)
    assert found.bits_per_second == pytest.approx(total / math.log(2) / seconds, rel=1e-5)


def test_standard_error_is_that_of_resampled_utterances(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    train_run(spec, shards, test_shards, tmp_path / "run")
    model, _ = load_model(tmp_path / "run" / MODEL)
    found = read_test_loss(model, test_shards, torch.float32)
    samples = test_shards[0].samples()
    nll = np.array([read_one(model, units) for units in samples])
    lengths = np.array([len(units) for units in samples])
    drawn = np.random.default_rng(0).integers(0, len(nll), (4000, len(nll)))
    spread = (nll[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)).std()
    assert found.error == pytest.approx(spread, rel=0.1)


def read_one(model: torch.nn.Module, units: np.ndarray) -> float:
    tokens = torch.tensor([16, *units.tolist()])
    with torch.no_grad():
        log_p = model(tokens[None, :-1])[0].log_softmax(-1)
    return -log_p[torch.arange(len(units)), tokens[1:]].sum().item()


def test_precision_by_choice() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("float32", cpu) == torch.float32
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert choose_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
