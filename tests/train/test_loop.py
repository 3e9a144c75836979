"""The training of a run: resuming, refusing other runs, divergence, mixtures, encodings, devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_shards import VOCABULARY

from speechscale.errors import UserError
from speechscale.records.runs import read_record, write_record
from speechscale.records.shards import Sample, Shard, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.tokens.mixture import TrainingCorpus
from speechscale.train.checkpoint import MODEL, list_checkpoints
from speechscale.train.loop import train_mixture, train_run
from speechscale.train.schedule import LearningRateSchedule
from speechscale.train.spec import MixtureComponent, RunSpec, open_corpora


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_loss_falls_far_below_that_of_guessing(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    longer = spec.model_copy(update={"tokens": 60 * 4 * 32})
    record = train_run(longer, shards, test_shards, tmp_path / "run")
    # The counter's own entropy is about 0.6 nats, guessing costs 2.9.
    assert record.loss is not None and record.loss < 1.5
    assert record.loss < record.curve[0].loss
    assert [point.step for point in record.curve] == [15, 30, 60]
    assert (record.tokens, record.params) == (60 * 4 * 32, longer.shape(VOCABULARY).params)
    assert record.epochs == pytest.approx(record.tokens / Windows(shards, 32).unique_tokens)


class Interrupted(Exception):
    """Ends a training between two steps."""


def interrupt_training(
    at: int, spec: RunSpec, shards: list[Shard], test_shards: list[Shard], folder: Path
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_run(spec, shards, test_shards, folder, interrupt)


@pytest.mark.parametrize("at", [1, 3, 4, 9])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path, at: int
) -> None:
    whole = train_run(spec, shards, test_shards, tmp_path / "whole")
    interrupt_training(at, spec, shards, test_shards, tmp_path / "parts")
    # A checkpoint is written before the step that follows it.
    assert list(list_checkpoints(tmp_path / "parts")) == ([2 * ((at - 1) // 2)] if at > 2 else [])
    parts = train_run(spec, shards, test_shards, tmp_path / "parts")
    assert (parts.loss, parts.curve) == (whole.loss, whole.curve)
    ours, theirs = load_file(tmp_path / "parts" / MODEL), load_file(tmp_path / "whole" / MODEL)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list_checkpoints(tmp_path / "parts")


def test_checkpoint_of_another_run_is_refused_by_field(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    interrupt_training(3, spec, shards, test_shards, tmp_path / "run")
    other = spec.model_copy(update={"peak_lr": 2e-2})
    with pytest.raises(UserError, match=r"spec\.peak_lr: found 0\.01, wanted 0\.02"):
        train_run(other, shards, test_shards, tmp_path / "run")
    max(list_checkpoints(tmp_path / "run").items())[1].write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="not a checkpoint"):
        train_run(spec, shards, test_shards, tmp_path / "run")


def test_finished_run_is_kept_and_never_overwritten_by_another(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    record = train_run(spec, shards, test_shards, tmp_path / "run")
    before = (tmp_path / "run" / MODEL).stat().st_mtime_ns
    assert train_run(spec, shards, test_shards, tmp_path / "run") == record
    assert (tmp_path / "run" / MODEL).stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"spec\.seed: found 0, wanted 1"):
        train_run(spec.model_copy(update={"seed": 1}), shards, test_shards, tmp_path / "run")


def test_test_speech_of_another_codebook_is_refused(
    spec: RunSpec, shards: list[Shard], tmp_path: Path
) -> None:
    other = {**shards[0].preprocessing, "kmeans": {"name": "other", "sha256": "other"}}
    samples = [Sample(str(i), units, 1.0, {}) for i, units in enumerate(shards[0].samples())]
    write_shard(tmp_path / "other" / "shard-0", samples, [], other)
    different = (
        r"other/shard-0 and .*shard-0 were encoded differently: kmeans\.name: found 'other', wanted 'k'"
    )
    with pytest.raises(UserError, match=different):
        train_run(spec, shards, open_shards(tmp_path / "other"), tmp_path / "run")


def test_diverging_run_is_recorded_before_the_non_finite_update(
    spec: RunSpec,
    shards: list[Shard],
    test_shards: list[Shard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LearningRateSchedule, "at", lambda *_: 1e30)
    record = train_run(spec, shards, test_shards, tmp_path / "run")
    assert record.status == "diverged" and record.loss is None
    assert record.note.startswith("step ")
    assert not (tmp_path / "run" / MODEL).exists()


@pytest.mark.parametrize(("steps", "curve", "where"), [(2, 1, "step 1"), (1, 0, "step 1")])
def test_non_finite_test_loss_is_a_divergence(
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
    assert read_record(tmp_path / "run" / "record.json") == record


def test_mixture_of_one_corpus_trains_as_that_corpus(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    alone = train_run(spec, shards, test_shards, tmp_path / "alone")
    mixture = spec.model_copy(update={"corpora": (MixtureComponent(shards="train", weight=2.0),)})
    _, corpora = open_corpora(mixture, tmp_path)
    assert train_mixture(mixture, corpora, test_shards, tmp_path / "mixture").loss == alone.loss


def test_mixture_counts_the_unique_tokens_of_each_corpus(
    spec: RunSpec, two_corpora: tuple[list[Shard], list[Shard]], test_shards: list[Shard], tmp_path: Path
) -> None:
    first, second = two_corpora
    record = train_mixture(
        spec, [TrainingCorpus(first, 9.0), TrainingCorpus(second, 1.0)], test_shards, tmp_path / "run"
    )
    seen = [36 * 32, 4 * 32]  # tokens of 40 windows
    limits = [Windows(shards, 32).unique_tokens for shards in two_corpora]
    assert record.unique_tokens == sum(map(min, seen, limits)) < record.tokens
    assert record.epochs == pytest.approx(record.tokens / sum(limits))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_said_in_a_sentence(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"device = 'cuda': this machine has no GPU .*; set device = 'cpu'"):
        train_run(spec.model_copy(update={"device": "cuda"}), shards, test_shards, tmp_path / "run")
