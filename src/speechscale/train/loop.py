"""One run, from shards to a run record and a checkpoint.

Presets: `paper` keeps two quirks of the released code of the study (the initialisation of the up projection, learning
rate 0 at step 0), `modern` mends them. Schedules are in `schedule.py`, the recipe of an update in `trainer.py`.

A run may be killed at any instant and goes on from its last checkpoint, bit for bit, for a batch depends on seed and
step alone. Under `torchrun` several processes share it, and any number of them can take it over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch

from speechscale.compute import choose_device, peak_flops
from speechscale.errors import UserError
from speechscale.records.revisions import revisions_of
from speechscale.records.runs import CurvePoint, RunRecord
from speechscale.records.seal import differing_fields, exclusive_lock, remove_leftovers, write_error
from speechscale.records.shards import Shard, encoding_of, shards_identity, unigram_identity
from speechscale.tokens.mixture import Mixture, TrainingCorpus
from speechscale.train.branches import tokens_trained
from speechscale.train.checkpoint import (
    MODEL,
    Progress,
    checkpoints,
    finished_run,
    load_training,
    load_trunk,
    prune,
    save_model,
    save_training,
)
from speechscale.train.metrics import Metrics, Throughput, require_tracker
from speechscale.train.processes import joined, require_processes, share_of_batch
from speechscale.train.spec import RunSpec
from speechscale.train.stopping import Stopping, stopping
from speechscale.train.trainer import NotFinite, Trainer
from speechscale.train.validate import TestLoss, read_test_loss, require_held_out

Tick = Callable[[int, int], None]  # (steps done, steps in all)


def train_run(
    spec: RunSpec, shards: Sequence[Shard], test: Sequence[Shard], folder: Path, tick: Tick = lambda *_: None
) -> RunRecord:
    """`train_mixture` on one corpus."""
    return train_mixture(spec, [TrainingCorpus(shards, limit=spec.unique_tokens)], test, folder, tick)


def train_mixture(
    spec: RunSpec,
    corpora: Sequence[TrainingCorpus],
    test: Sequence[Shard],
    folder: Path,
    tick: Tick = lambda *_: None,
) -> RunRecord:
    """Train, or go on where an interrupted training stopped, and leave `model.safetensors` in `folder`.

    Beside it lie `metrics.jsonl` and, until the run is done, `training-<steps>.safetensors`. A run with a trunk takes
    its first steps from the folder of that name beside its own.

    Returns the run's record without scores; its status is `diverged` when a loss or gradient stopped being finite.

    Raises:
        UserError: `folder` holds another run, training and test speech were encoded differently or overlap, batch and
            processes do not fit, a device or package is absent, memory does not suffice.
        KeyboardInterrupt: SIGTERM or ctrl-C came, and the training was saved.
    """
    started = time.perf_counter()
    require_tracker(spec.track)
    device = choose_device(spec.device)
    mixture = Mixture(corpora, spec.context)
    provenance = _provenance(spec, corpora, test)
    with joined(device) as world, stopping() as stop:
        require_processes(spec.processes, world)
        share_of_batch(spec.batch, world)
        finished = finished_run(folder / MODEL, provenance)
        if finished:
            return finished
        require_held_out([shard for corpus in corpora for shard in corpus.shards], test)
        first = corpora[0].shards[0].preprocessing
        eos = first["eos_token"] if spec.document_masking else None
        trainer = Trainer(spec, first["vocab_size"], mixture, eos=eos, world=world)
        return _Run(spec, trainer, mixture, test, folder, provenance, started).go(tick, stop)


class _Run:
    """A run in progress: its trainer, its files and the test losses read so far."""

    def __init__(
        self,
        spec: RunSpec,
        trainer: Trainer,
        mixture: Mixture,
        test: Sequence[Shard],
        folder: Path,
        provenance: dict[str, Any],
        started: float,
    ) -> None:
        self.spec, self.trainer, self.mixture, self.test = spec, trainer, mixture, test
        self.folder, self.provenance, self.started = folder, provenance, started
        self.world = trainer.world
        self.curve: list[tuple[int, float]] = []

    def go(self, tick: Tick, stop: Stopping) -> RunRecord:
        """
        Raises:
            UserError: another training is at work in the folder; the two would write the same checkpoints.
        """
        if not self.world.writes:
            return self._go(tick, stop)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        with exclusive_lock(self.folder):
            remove_leftovers(self.folder)
            return self._go(tick, stop)

    def _go(self, tick: Tick, stop: Stopping) -> RunRecord:
        start = self._resume()
        self.world.wait()
        try:
            self._train(start, tick, stop)
            final = self._test_loss(self.spec.steps)
        except NotFinite as error:
            return self._record(status="diverged", note=str(error))
        self.curve.append((self.spec.steps, final.loss))
        record = self._record(
            status="done", loss=final.loss, loss_se=final.error, bits_per_second=final.bits_per_second
        )
        save_model(self.trainer.model, self.folder / MODEL, self.provenance, record, self.world)
        if self.world.writes:
            for step, path in checkpoints(self.folder).items():
                if step not in self.spec.keep:
                    path.unlink()
        self.world.wait()  # no process is done before the files are there
        return record

    def _resume(self) -> int:
        """Go on from the newest checkpoint, else from the trunk, else from the start; returns the steps done."""
        spec, trainer = self.spec, self.trainer
        found = checkpoints(self.folder)
        newest = max(found, default=0)
        self.world.require_same(newest, "checkpoints")
        if newest:
            progress = load_training(trainer.model, trainer.optimizer, found[newest], self.provenance)
            self.curve = list(progress.curve)
            return progress.step
        if spec.trunk is None:
            return 0
        start = spec.decay_start
        trunk = self.folder.parent / spec.trunk
        load_trunk(trainer.model, trainer.optimizer, trunk, start, self.provenance)
        return start

    def _train(self, start: int, tick: Tick, stop: Stopping) -> None:
        spec, trainer, world = self.spec, self.trainer, self.world
        readings = _reading_steps(spec)
        per_token = trainer.model.shape.flops_exact(1)
        peak = peak_flops(trainer.device, trainer.dtype) * world.size
        metrics = Metrics(self.folder, spec, start) if world.writes else None
        with (
            closing(metrics) if metrics else nullcontext(),
            trainer.feed.ahead(start, spec.steps) as batches,
        ):
            pace, told = Throughput(per_token, peak, trainer.feed.waited), start
            for step, batch in enumerate(batches, start):
                with pace.paused():
                    if step > start and (step % spec.checkpoint_steps == 0 or step in spec.keep):
                        self._save(step)
                    if step in readings:
                        self.curve.append((step, self._test_loss(step).loss))
                trainer.advance(step, batch)
                done = step + 1
                look = done % spec.metrics_steps == 0 or done == spec.steps
                if look:
                    update = trainer.read(step)
                    speed = pace.look((done - told) * spec.batch * spec.context, trainer.feed.waited)
                    told = done
                    if metrics:
                        rate = trainer.optimizer.param_groups[0]["lr"]
                        values = {"loss": update.loss, "rate": rate, "gradient_norm": update.gradient_norm}
                        metrics.log(step, values | speed)
                if world.writes:
                    tick(done, spec.steps)
                if self._all_stop(stop, look) and done < spec.steps:
                    self._save(done)
                    world.wait()
                    raise KeyboardInterrupt

    def _all_stop(self, stop: Stopping, look: bool) -> bool:
        """Whether any process was asked to stop. Several ask each other only now and then: that makes a GPU wait."""
        if self.world.size == 1:
            return stop.signal is not None
        if not look:
            return False
        asked = torch.tensor([float(stop.signal is not None)], device=self.trainer.device)
        return self.world.sum(asked).item() > 0

    def _save(self, done: int) -> None:
        """The training after so many steps. Saved only when all of them were finite, so that it can go on."""
        trainer, spec = self.trainer, self.spec
        trainer.read(done - 1)
        progress = Progress(done, self.curve)
        save_training(trainer.model, trainer.optimizer, progress, self.folder, self.provenance, self.world)
        if self.world.writes:
            prune(self.folder, spec.keep_last, spec.keep)

    def _test_loss(self, done: int) -> TestLoss:
        """After so many steps.

        Raises:
            NotFinite: it is no number. The update that did it had a finite gradient; the next one would have shown it.
        """
        found = read_test_loss(self.trainer.model, self.test, self.trainer.dtype, self.world)
        if not math.isfinite(found.loss):
            raise NotFinite(f"step {done}: test loss {found.loss}")
        return found

    def _record(self, **outcome: Any) -> RunRecord:
        spec, shape = self.spec, self.trainer.model.shape
        tokens = spec.tokens_seen
        return RunRecord.model_validate(
            {
                "loss": None,
                "loss_se": None,
                "bits_per_second": None,
                **outcome,
                "run": spec.run,
                "series": spec.series,
                "preset": spec.preset,
                "seed": spec.seed,
                "params": shape.params,
                "params_total": shape.params_total,
                "tokens": tokens,
                "unique_tokens": self.mixture.unique_tokens_in(spec.steps * spec.batch),
                "epochs": tokens / self.mixture.unique_tokens,
                "steps": spec.steps,
                "flops": shape.flops(tokens),
                "flops_exact": shape.flops_exact(tokens),
                "flops_spent": shape.flops(tokens_trained(spec)),
                "schedule": spec.schedule,
                "warmup_steps": spec.warmup_steps,
                "seconds": time.perf_counter() - self.started,
                "curve": [
                    CurvePoint(step=step, tokens=step * spec.batch * spec.context, loss=loss)
                    for step, loss in self.curve
                ],
            }
        )


def _reading_steps(spec: RunSpec) -> set[int]:
    """Steps before which the test loss is read: at 1/2, 1/4, 1/8 … of the run, so evenly in log compute."""
    return {spec.steps >> power for power in range(1, spec.curve + 1)} - {0}


def _provenance(spec: RunSpec, corpora: Sequence[TrainingCorpus], test: Sequence[Shard]) -> dict[str, Any]:
    shards = corpora[0].shards
    differing = differing_fields(encoding_of(test[0]), encoding_of(shards[0]))
    if differing:
        raise UserError(f"training and test speech were encoded differently: {'; '.join(differing)}.")
    identities = [shards_identity(list(corpus.shards)) for corpus in corpora]
    return {
        "revisions": revisions_of("train"),
        "spec": spec.what(),
        "train": identities[0] if len(corpora) == 1 else identities,
        "test": shards_identity(list(test)),
        "encoder": shards[0].preprocessing["unit_extractor"],
        "kmeans": shards[0].preprocessing["kmeans"]["sha256"],
        "unigram": unigram_identity(shards[0]),
        **({"trunk": spec.trunk_of()} if spec.schedule == "wsd" else {}),
    }
