"""One run, from shards to a run record and a checkpoint.

The recipe is the study's, scaled down: AdamW with beta (0.9, 0.95), weight decay 0.1 on matrices, gradients clipped at
norm 1, warm-up and half a cosine (`schedule.py`). Presets: `paper` keeps two quirks of the released code (the
initialisation of the up projection, learning rate 0 at step 0), `modern` mends them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from speechscale import __version__
from speechscale.errors import UserError
from speechscale.model.device import compute_device, precision_of
from speechscale.model.transformer import Transformer
from speechscale.records.runs import CurvePoint, RunRecord
from speechscale.records.seal import differing_fields
from speechscale.records.shards import Shard, encoding_of, shards_identity, unigram_of
from speechscale.tokens.batches import Windows
from speechscale.train.checkpoint import (
    MODEL,
    TRAINING,
    Progress,
    finished_run,
    load_training,
    save_model,
    save_training,
)
from speechscale.train.schedule import learning_rate
from speechscale.train.spec import RunSpec
from speechscale.train.validate import read_test_loss

Tick = Callable[[int, int], None]  # (steps done, steps in all)


class NotFinite(ArithmeticError):
    """Loss or gradient is no number any more; the update was not made."""


def train_run(
    spec: RunSpec, shards: Sequence[Shard], test: Sequence[Shard], folder: Path, tick: Tick = lambda *_: None
) -> RunRecord:
    """Train, or go on where an interrupted training stopped, and leave `model.safetensors` in `folder`.

    Returns the run's record without scores; its status is `diverged` when loss or gradient stopped being finite.

    Raises:
        UserError: `folder` holds another run, or training and test speech were encoded differently.
    """
    started = time.perf_counter()
    made_from = _made_from(spec, shards, test)
    finished = finished_run(folder / MODEL, made_from)
    if finished:
        return finished
    windows = Windows(shards, spec.context, spec.unique_tokens)
    trainer = _Trainer(spec, shards[0].preprocessing["vocab_size"], windows)
    progress = load_training(trainer.model, trainer.optimizer, folder / TRAINING, made_from)
    readings = _reading_steps(spec)
    curve = list(progress.curve)
    try:
        for step in range(progress.step, spec.steps):
            if step in readings:
                curve.append((step, read_test_loss(trainer.model, test, trainer.dtype).loss))
            if step > progress.step and step % spec.checkpoint_steps == 0:
                at = Progress(step, curve[: -1 if step in readings else None])
                save_training(trainer.model, trainer.optimizer, at, folder / TRAINING, made_from)
            trainer.update(step)
            tick(step + 1, spec.steps)
    except NotFinite as error:
        return _record(trainer, started, curve, status="diverged", note=str(error))
    final = read_test_loss(trainer.model, test, trainer.dtype)
    curve.append((spec.steps, final.loss))
    record = _record(
        trainer,
        started,
        curve,
        status="done",
        loss=final.loss,
        loss_se=final.error,
        bits_per_second=final.bits_per_second,
    )
    save_model(trainer.model, folder / MODEL, made_from, record)
    (folder / TRAINING).unlink(missing_ok=True)
    return record


class _Trainer:
    """Model, optimiser and data of one run."""

    def __init__(self, spec: RunSpec, vocabulary: int, windows: Windows) -> None:
        torch.manual_seed(spec.seed)
        self.spec, self.windows = spec, windows
        self.device = compute_device()
        self.dtype = precision_of(spec.precision, self.device)
        self.model = Transformer(spec.shape(vocabulary), spec.preset).to(self.device)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        gains = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": gains, "weight_decay": 0.0}],
            betas=(0.9, 0.95),
            fused=True,
        )

    def update(self, step: int) -> float:
        """One step; returns the training loss, nats per token.

        Raises:
            NotFinite: before anything was changed.
        """
        spec = self.spec
        batch = torch.from_numpy(self.windows.batch(spec.seed, step, spec.batch)).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(loss + norm):
            raise NotFinite(f"step {step}: loss {loss.item()}, gradient norm {norm.item()}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, spec.steps, spec.peak_rate, spec.preset)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def _reading_steps(spec: RunSpec) -> set[int]:
    """Steps before which the test loss is read: at 1/2, 1/4, 1/8 … of the run, so evenly in log compute."""
    return {spec.steps >> power for power in range(1, spec.curve + 1)} - {0}


def _made_from(spec: RunSpec, shards: Sequence[Shard], test: Sequence[Shard]) -> dict[str, Any]:
    differing = differing_fields(encoding_of(test[0]), encoding_of(shards[0]))
    if differing:
        raise UserError(f"training and test speech were encoded differently: {'; '.join(differing)}.")
    return {
        "code_version": __version__,
        "spec": spec.model_dump(mode="json"),
        "train": shards_identity(list(shards)),
        "test": shards_identity(list(test)),
        "encoder": shards[0].preprocessing["unit_extractor"],
        "kmeans": shards[0].preprocessing["kmeans"]["sha256"],
        "unigram": unigram_of(shards[0]),
    }


def _record(trainer: _Trainer, started: float, curve: list[tuple[int, float]], **outcome: Any) -> RunRecord:
    spec, shape = trainer.spec, trainer.model.shape
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
            "unique_tokens": min(tokens, trainer.windows.tokens),
            "epochs": tokens / trainer.windows.tokens,
            "steps": spec.steps,
            "flops": shape.flops(tokens),
            "flops_exact": shape.flops_exact(tokens),
            "seconds": time.perf_counter() - started,
            "curve": [
                CurvePoint(step=step, tokens=step * spec.batch * spec.context, loss=loss)
                for step, loss in curve
            ],
        }
    )
