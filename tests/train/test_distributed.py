"""One run on one, two and four processes: equal batches, losses and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rank_processes import run_on_ranks
from safetensors.torch import load_file

from speechscale.errors import UserError
from speechscale.records.shards import Shard, open_shards
from speechscale.tokens.batches import Windows
from speechscale.train.checkpoint import MODEL, list_checkpoints
from speechscale.train.distributed import DistributedContext, distributed_context, require_world_size
from speechscale.train.loop import train_run
from speechscale.train.metrics import read_metrics
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import BatchLoader

CPU = torch.device("cpu")


def losses(
    spec: RunSpec, data: Path, folder: Path, stop_at: int | None = None
) -> tuple[list[float], float | None]:
    """Training losses of all steps, and the test loss, of a run; None when it was stopped."""

    def stop(done: int, _: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    shards, test = open_shards(data / "train"), open_shards(data / "test")
    record = train_run(spec, shards, test, folder, stop)
    return [line.loss for line in read_metrics(folder)], record.loss


@pytest.fixture
def every_step(spec: RunSpec) -> RunSpec:
    return spec.model_copy(update={"metrics_steps": 1})


@pytest.mark.parametrize("size", [1, 2, 4])
def test_shares_of_all_processes_make_the_batch_of_one(shards: list[Shard], spec: RunSpec, size: int) -> None:
    windows = Windows(shards, spec.context)
    seeded = spec.model_copy(update={"seed": 7})
    loaders = [BatchLoader(windows, seeded, 18, CPU, DistributedContext(rank, size)) for rank in range(size)]
    for step in range(30):  # several epochs
        batch = np.concatenate([loader.local_batch(step).numpy() for loader in loaders])
        assert np.array_equal(batch, windows.batch(7, step, spec.batch))


def test_micro_batches_change_rounding_only(every_step: RunSpec, data: Path) -> None:
    reference, loss = losses(every_step, data, data / "reference")
    for micro in (1, 3):  # three: four sequences do not divide evenly
        parts, of_parts = losses(
            every_step.model_copy(update={"micro_batch": micro}), data, data / str(micro)
        )
        assert parts == pytest.approx(reference, abs=1e-6)
        assert of_parts == pytest.approx(loss, abs=1e-6)


@pytest.mark.slow
def test_one_two_and_four_processes_give_the_same_losses(every_step: RunSpec, data: Path) -> None:
    alone, loss = losses(every_step, data, data / "one")
    assert len(alone) == 10
    for size, options in ((2, {"micro_batch": 1}), (4, {}), (2, {"parallel": "fsdp", "micro_batch": 1})):
        spec = every_step.model_copy(update=options)
        folder = data / f"{size}-{spec.parallel}"
        shared = run_on_ranks(size, losses, spec, data, folder)
        for curve, test_loss in shared:
            assert curve == pytest.approx(alone, abs=1e-6)
            assert test_loss == pytest.approx(loss, abs=1e-6)
        ours, theirs = load_file(folder / MODEL), load_file(data / "one" / MODEL)
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "first", "then"), [("ddp", 2, 1), ("fsdp", 2, 1), ("fsdp", 1, 2)])
def test_run_is_continued_by_another_number_of_processes(
    every_step: RunSpec, data: Path, parallel: str, first: int, then: int
) -> None:
    spec = every_step.model_copy(update={"parallel": parallel})
    reference, loss = losses(spec, data, data / "reference")
    for size, stop_at in ((first, 7), (then, None)):
        if stop_at:
            with pytest.raises(KeyboardInterrupt):
                run_on_ranks(size, losses, spec, data, data / "parts", stop_at)
            assert list(list_checkpoints(data / "parts")) == [6]
        else:
            curve, test_loss = run_on_ranks(size, losses, spec, data, data / "parts")[0]
    assert curve == pytest.approx(reference, abs=1e-6)
    assert test_loss == pytest.approx(loss, abs=1e-6)


def test_batch_that_processes_cannot_share_evenly_is_refused(every_step: RunSpec, data: Path) -> None:
    with pytest.raises(UserError, match=r"batch = 4 .* by 3 processes; start 2 of them, or .* such as 6"):
        run_on_ranks(3, losses, every_step, data, data / "run")


def test_number_of_processes_that_differs_from_the_spec_is_refused() -> None:
    require_world_size(1, DistributedContext(0, 4))
    require_world_size(4, DistributedContext(3, 4))
    with pytest.raises(UserError, match=r"processes = 4, but 1 read this run; .*--nproc-per-node 4"):
        require_world_size(4, DistributedContext())


def test_world_size_without_a_rank_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match=r"RANK, .*start them with torchrun"), distributed_context(CPU):
        pass
