"""The training of one run, from shards to a run record and a model.

A run may be killed at any instant. It continues from its last checkpoint, bit for bit, because a batch depends on seed
and step alone. Under `torchrun` several processes share a run, and any number of them can continue it.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Unpack

import torch

from speechscale.compute import choose_device, peak_flops
from speechscale.records.revisions import revisions_of
from speechscale.records.runs import CurvePoint, Outcome, RunRecord
from speechscale.records.seal import exclusive_lock, remove_leftovers, write_error
from speechscale.records.shards import Shard, require_same_encoding, shards_identity, unigram_identity
from speechscale.records.training_provenance import TrainingProvenance
from speechscale.tokens.mixture import Mixture, TrainingCorpus
from speechscale.train.checkpoint import (
    MODEL,
    TrainingProgress,
    list_checkpoints,
    load_checkpoint,
    load_trunk_checkpoint,
    prune_checkpoints,
    read_record_if_finished,
    save_checkpoint,
    save_model,
)
from speechscale.train.distributed import distributed_context, local_batch_size, require_world_size
from speechscale.train.metrics import MetricsLine, MetricsLog, Throughput, require_tracker
from speechscale.train.spec import OnStep, RunSpec
from speechscale.train.trainer import NonFiniteError, Trainer
from speechscale.train.validate import LossEstimate, evaluate_loss, require_held_out


def train_run(
    spec: RunSpec,
    shards: Sequence[Shard],
    test: Sequence[Shard],
    folder: Path,
    on_step: OnStep = lambda *_: None,
) -> RunRecord:
    """`train_mixture` on one corpus, whose shards are `shards`."""
    return train_mixture(spec, [TrainingCorpus(shards, limit=spec.unique_tokens)], test, folder, on_step)


def train_mixture(
    spec: RunSpec,
    corpora: Sequence[TrainingCorpus],
    test: Sequence[Shard],
    folder: Path,
    on_step: OnStep = lambda *_: None,
) -> RunRecord:
    """Train, or continue an interrupted training, and leave `model.safetensors` in `folder`.

    The folder also gets `metrics.jsonl` and, until the run is done, `training-<steps>.safetensors`. A run with a trunk
    starts from a checkpoint in the folder of that name next to its own.

    Args:
        spec: the run.
        corpora: the training speech.
        test: shards of the test speech.
        folder: of the run.
        on_step: called after every update on the main process.

    Returns:
        The run's record without scores; its status is `diverged` when a loss or gradient was not finite.

    Raises:
        UserError: `folder` has another run, training and test speech were encoded differently or overlap, batch and
            processes do not fit, a device or package is missing, or memory does not suffice.
        KeyboardInterrupt: SIGTERM or ctrl-C came, and a checkpoint was saved.
    """
    started = time.perf_counter()
    require_tracker(spec.track)
    device = choose_device(spec.device)
    mixture = Mixture(corpora, spec.context)
    provenance = _provenance(spec, corpora, test)
    with distributed_context(device) as context, stop_on_signals() as stop:
        require_world_size(spec.processes, context)
        local_batch_size(spec.batch, context)
        finished = read_record_if_finished(folder / MODEL, provenance)
        if finished:
            return finished
        require_held_out([shard for corpus in corpora for shard in corpus.shards], test)
        first = corpora[0].shards[0]
        eos = first.eos if spec.document_masking else None
        trainer = Trainer(spec, first.vocabulary_size, mixture, eos=eos, context=context)
        return _TrainingRun(trainer, mixture, test, folder, provenance, started).run(on_step, stop)


class StopRequest:
    """Whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler: remember the first signal; the second one interrupts at once."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Collect SIGTERM and SIGINT inside the block, unless the caller ignores them; send them again after it."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    replaced = {
        number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)
    }
    for number in replaced:
        signal.signal(number, request.handle)
    try:
        yield request
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        if request.signal is not None:
            os.kill(os.getpid(), request.signal)


class _TrainingRun:
    """A run in progress: its trainer, its folder, and the test losses so far."""

    def __init__(
        self,
        trainer: Trainer,
        mixture: Mixture,
        test: Sequence[Shard],
        folder: Path,
        provenance: TrainingProvenance,
        started: float,
    ) -> None:
        self.spec, self.context = trainer.spec, trainer.context
        self.trainer, self.mixture, self.test = trainer, mixture, test
        self.folder, self.provenance, self.started = folder, provenance, started
        self.curve: list[tuple[int, float]] = []

    def run(self, on_step: OnStep, stop: StopRequest) -> RunRecord:
        """Train to the end; the main process locks the folder.

        Raises:
            UserError: another training runs in the folder; both would write the same checkpoints.
        """
        if not self.context.is_main:
            return self._run(on_step, stop)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        with exclusive_lock(self.folder):
            remove_leftovers(self.folder)
            return self._run(on_step, stop)

    def _run(self, on_step: OnStep, stop: StopRequest) -> RunRecord:
        start = self._resume()
        self.context.barrier()
        try:
            self._train(start, on_step, stop)
            final = self._evaluate(self.spec.steps)
        except NonFiniteError as error:
            return self._record(status="diverged", note=str(error), seconds=self._seconds())
        self.curve.append((self.spec.steps, final.loss))
        record = self._record(
            status="done",
            loss=final.loss,
            loss_se=final.standard_error,
            bits_per_second=final.bits_per_second,
            seconds=self._seconds(),
        )
        save_model(self.trainer.model, self.folder / MODEL, self.provenance, record, self.context)
        if self.context.is_main:
            prune_checkpoints(self.folder, 0, self.spec.keep)
        self.context.barrier()  # no process may exit before the files are written
        return record

    def _resume(self) -> int:
        """Restore the newest checkpoint, else that of the trunk, if any; returns the number of steps made."""
        spec, trainer = self.spec, self.trainer
        checkpoints = list_checkpoints(self.folder)
        newest = max(checkpoints, default=0)
        self.context.require_equal(newest, "checkpoints")
        if newest:
            path = checkpoints[newest]
            progress = load_checkpoint(trainer.model, trainer.optimizer, path, self.provenance)
            self.curve = list(progress.curve)
            return progress.step
        if spec.trunk is None:
            return 0
        trunk = self.folder.parent / spec.trunk
        load_trunk_checkpoint(trainer.model, trainer.optimizer, trunk, spec.decay_start, self.provenance)
        return spec.decay_start

    def _train(self, start: int, on_step: OnStep, stop: StopRequest) -> None:
        spec, trainer, context = self.spec, self.trainer, self.context
        evaluation_steps = _evaluation_steps(spec)
        flops_per_token = trainer.model.shape.flops_exact(1)
        peak = peak_flops(trainer.device, trainer.dtype) * context.size
        log = MetricsLog(self.folder, spec, start) if context.is_main else None
        with closing(log) if log else nullcontext(), trainer.loader.prefetch(start, spec.steps) as batches:
            throughput = Throughput(flops_per_token, peak, trainer.loader.wait_seconds)
            logged = start
            for step, batch in enumerate(batches, start):
                with throughput.paused():
                    if step > start and (step % spec.checkpoint_steps == 0 or step in spec.keep):
                        self._save(step)
                    if step in evaluation_steps:
                        self.curve.append((step, self._evaluate(step).loss))
                trainer.train_step(step, batch)
                done = step + 1
                log_now = done % spec.metrics_steps == 0 or done == spec.steps
                if log_now:
                    metrics = trainer.step_metrics(step)
                    tokens = (done - logged) * spec.batch * spec.context
                    speed = throughput.measure(tokens, trainer.loader.wait_seconds)
                    logged = done
                    if log:
                        log.log(
                            MetricsLine(
                                step=step,
                                loss=metrics.loss,
                                rate=trainer.learning_rate.at(step),
                                gradient_norm=metrics.gradient_norm,
                                **speed,
                            )
                        )
                if context.is_main:
                    on_step(done, spec.steps)
                if self._stop_requested(stop, log_now) and done < spec.steps:
                    self._save(done)
                    context.barrier()
                    raise KeyboardInterrupt

    def _stop_requested(self, stop: StopRequest, exchange: bool) -> bool:
        """Whether any process was asked to stop; several exchange this only now and then, for a GPU waits for it."""
        if self.context.size == 1:
            return stop.signal is not None
        if not exchange:
            return False
        requested = torch.tensor([float(stop.signal is not None)], device=self.trainer.device)
        return self.context.all_reduce_sum(requested).item() > 0

    def _save(self, step: int) -> None:
        """Save a checkpoint after `step` steps.

        Raises:
            NonFiniteError: one of the steps was not finite; nothing is saved.
        """
        trainer, spec = self.trainer, self.spec
        trainer.step_metrics(step - 1)
        progress = TrainingProgress(step, self.curve)
        save_checkpoint(
            trainer.model, trainer.optimizer, progress, self.folder, self.provenance, self.context
        )
        if self.context.is_main:
            prune_checkpoints(self.folder, spec.keep_last, spec.keep)

    def _evaluate(self, step: int) -> LossEstimate:
        """The test loss after `step` steps.

        Raises:
            NonFiniteError: it is not finite: the last update had a finite gradient and made the weights infinite.
        """
        estimate = evaluate_loss(self.trainer.model, self.test, self.trainer.dtype, self.context)
        if not math.isfinite(estimate.loss):
            raise NonFiniteError(f"step {step}: test loss {estimate.loss}")
        return estimate

    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def _record(self, **outcome: Unpack[Outcome]) -> RunRecord:
        spec = self.spec
        outcome["curve"] = tuple(
            CurvePoint(step=step, tokens=step * spec.batch * spec.context, loss=loss)
            for step, loss in self.curve
        )
        return RunRecord.of(
            self.trainer.model.shape,
            spec,
            unique_tokens=self.mixture.unique_tokens_in(spec.steps * spec.batch),
            epoch_tokens=self.mixture.unique_tokens,
            **outcome,
        )


def _evaluation_steps(spec: RunSpec) -> set[int]:
    """Steps before which the test loss is computed: at 1/2, 1/4, 1/8 … of the run, so evenly in log compute."""
    return {spec.steps >> power for power in range(1, spec.curve + 1)} - {0}


def _provenance(
    spec: RunSpec, corpora: Sequence[TrainingCorpus], test: Sequence[Shard]
) -> TrainingProvenance:
    """Everything that the model depends on: spec, revision of the training, and identities of the data."""
    shards = corpora[0].shards
    require_same_encoding(test[0], shards[0])
    identities = [shards_identity(list(corpus.shards)) for corpus in corpora]
    values = {
        "revisions": revisions_of("train"),
        "spec": spec.identity(),
        "train": identities[0] if len(corpora) == 1 else identities,
        "test": shards_identity(list(test)),
        "encoder": shards[0].preprocessing["unit_extractor"],
        "kmeans": shards[0].preprocessing["kmeans"]["sha256"],
        "unigram": unigram_identity(shards[0]),
        **({"trunk": spec.trunk_identity()} if spec.schedule == "wsd" else {}),
    }
    return TrainingProvenance.model_validate(values)
