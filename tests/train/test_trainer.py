"""Updates of a run: golden losses, masking, recomputing, compiling, deferred metrics, memory and vocabulary errors."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_shards import EOS, PREPROCESSING, VOCABULARY

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer, document_mask
from speechscale.records.shards import Sample, Shard, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.train.loop import train_run
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import NonFiniteError, Trainer

# Losses of the first ten steps of the tiny run, float32, one thread; a refactoring must not change them.
GOLDEN = [2.922591, 2.788677, 2.657177, 2.555276, 2.456926, 2.366518, 2.325846, 2.270818, 2.265326, 2.243851]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_trainer(spec: RunSpec, shards: list[Shard], eos: int | None = None) -> Trainer:
    return Trainer(spec, VOCABULARY, Windows(shards, spec.context), eos=eos)


def losses(spec: RunSpec, shards: list[Shard], eos: int | None = None) -> list[float]:
    trainer = make_trainer(spec, shards, eos)
    return [trainer.load_and_train_step(step) for step in range(5)]


def test_golden_losses_of_ten_steps(spec: RunSpec, shards: list[Shard]) -> None:
    trainer = make_trainer(spec, shards)
    found = [trainer.load_and_train_step(step) for step in range(10)]
    assert found == pytest.approx(GOLDEN, abs=1e-5)
    assert found[0] == pytest.approx(math.log(VOCABULARY), abs=0.1)  # an untrained model guesses


def test_masked_attention_does_not_cross_documents(spec: RunSpec) -> None:
    torch.manual_seed(0)
    model = Transformer(spec.shape(VOCABULARY)).eval()
    document = torch.tensor([EOS, 3, 4, 5, 6])
    left, other_left, right = torch.tensor([7, 8, 9]), torch.tensor([1, 1, 2]), torch.tensor([EOS, 2, 1])
    masked = []
    for before in (left, other_left):
        tokens = torch.cat((before, document, right))[None]
        masked.append(model(tokens, document_mask(tokens, EOS))[0, 3:8])
    alone = model(document[None])[0]
    torch.testing.assert_close(masked[0], masked[1], rtol=0, atol=0)
    torch.testing.assert_close(masked[0], alone, rtol=0, atol=1e-5)  # rotary positions are relative
    unmasked = model(torch.cat((left, document, right))[None])[0, 3:8]
    assert (unmasked - alone).abs().max() > 1e-3


def test_document_masking_is_part_of_the_identity_of_a_run(spec: RunSpec, shards: list[Shard]) -> None:
    masked = spec.model_copy(update={"document_masking": True})
    assert masked.identity() != spec.identity()
    assert losses(masked, shards, EOS)[1:] != losses(spec, shards)[1:]


def test_activation_checkpointing_changes_no_bit(spec: RunSpec, shards: list[Shard]) -> None:
    recomputed = spec.model_copy(update={"activation_checkpointing": True})
    assert losses(recomputed, shards) == losses(spec, shards)
    assert recomputed.identity() == spec.identity()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"activation_checkpointing": True}, {"document_masking": True}])
def test_compiling_changes_rounding_only(
    spec: RunSpec, shards: list[Shard], options: dict[str, bool]
) -> None:
    eager = spec.model_copy(update=options)
    eos = EOS if eager.document_masking else None
    compiled = losses(eager.model_copy(update={"compile": True}), shards, eos)
    assert compiled == pytest.approx(losses(eager, shards, eos), abs=1e-5)


def test_deferred_metrics_skip_all_updates_from_the_first_non_finite_one(
    spec: RunSpec, shards: list[Shard]
) -> None:
    """As on a GPU, where metrics are read now and then."""
    trainer = make_trainer(spec, shards)
    trainer.defer_metrics = True
    batches = [trainer.loader.local_batch(step) for step in range(6)]
    for step in (0, 1):
        trainer.train_step(step, batches[step])
    with torch.no_grad():
        trainer.model.blocks[0].down.weight[0, 0] = float("inf")
    before = [p.clone() for p in trainer.model.parameters()]
    for step in (2, 3, 4):
        trainer.train_step(step, batches[step])
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), before, strict=True))
    with pytest.raises(NonFiniteError, match="step 2: loss nan"):
        trainer.step_metrics(4)


def test_deferred_metrics_change_no_bit(spec: RunSpec, shards: list[Shard]) -> None:
    trainer = make_trainer(spec, shards)
    trainer.defer_metrics = True
    assert [trainer.load_and_train_step(step) for step in range(5)] == losses(spec, shards)


def test_prefetched_batches_are_those_of_their_steps(spec: RunSpec, shards: list[Shard]) -> None:
    loader = make_trainer(spec, shards).loader
    with loader.prefetch(3, 40) as batches:
        prefetched = list(batches)
    assert len(prefetched) == 37 and loader.wait_seconds >= 0
    assert all(torch.equal(batch, loader.local_batch(step)) for step, batch in enumerate(prefetched, 3))
    with loader.prefetch(5, 5) as none:
        assert list(none) == []


def test_units_outside_the_vocabulary_are_refused(
    spec: RunSpec, test_shards: list[Shard], tmp_path: Path
) -> None:
    sample = Sample("x", np.append(np.arange(200) % VOCABULARY, EOS).astype(np.int16), 1.0, {})
    write_shard(tmp_path / "odd" / "shard-0", [sample], [], PREPROCESSING)
    units = np.append(np.full(200, 40), EOS).astype("<i2")
    (tmp_path / "odd" / "shard-0" / "audio.bin").write_bytes(units.tobytes())
    with pytest.raises(UserError, match="units from 40 to 40, but the model's vocabulary ends at 17"):
        train_run(spec, open_shards(tmp_path / "odd"), test_shards, tmp_path / "run")


def test_out_of_memory_error_names_the_setting_to_change(shards: list[Shard]) -> None:
    """In a process that may not have more than half a gigabyte beyond what it starts with."""
    script = f"""
        import resource
        from speechscale.records.shards import open_shards
        from speechscale.tokens.batches import Windows
        from speechscale.train.spec import RunSpec
        from speechscale.train.trainer import Trainer
        spec = RunSpec(run="big", layers=1, dim=256, heads=1, context=32, batch=20_000, tokens=640_000)
        trainer = Trainer(spec, 18, Windows(open_shards({str(shards[0].folder.parent)!r}), 32))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
        trainer.load_and_train_step(0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert (
        "UserError: out of memory at step 0 with 20000 sequences of 32 per forward pass; set micro_batch = 10000."
        in done.stderr
    )


def test_out_of_memory_in_the_optimiser_asks_for_more_processes(spec: RunSpec, shards: list[Shard]) -> None:
    """Its state is allocated after the passes of the first step, so smaller passes would not help."""
    trainer = make_trainer(spec, shards)

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.optimizer.register_step_pre_hook(refuse)
    with pytest.raises(
        UserError, match=r"out of memory at step 0 for the optimiser's state; start more processes"
    ):
        trainer.load_and_train_step(0)
