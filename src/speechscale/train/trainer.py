"""Model, optimiser and data of one run, and the update that they make together.

The recipe is the study's, scaled down: AdamW with beta (0.9, 0.95), weight decay 0.1 on matrices, gradients clipped at
norm 1. An update is the mean over the tokens of the whole batch, however many processes and forward passes share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from speechscale.compute import choose_device, choose_dtype
from speechscale.errors import UserError
from speechscale.model.transformer import Transformer, document_mask
from speechscale.train.feed import Feed, Windows
from speechscale.train.processes import ALONE, World, no_sync, shard, synchronised, whole
from speechscale.train.schedule import learning_rate
from speechscale.train.spec import RunSpec

_CLIP = 1.0  # gradient norm
_SHARE = 'start more processes with parallel = "fsdp", or choose a smaller model or context'


class NotFinite(ArithmeticError):
    """Loss or gradient is no number any more; the update was not made, nor any after it."""


@dataclass(frozen=True)
class StepMetrics:
    """What one update says of itself; nats per token of the whole batch."""

    step: int
    loss: float
    gradient_norm: float


class Trainer:
    """Makes the updates of a run, one a step."""

    def __init__(
        self,
        spec: RunSpec,
        vocabulary: int,
        windows: Windows,
        *,
        eos: int | None = None,
        world: World = ALONE,
    ) -> None:
        """`eos`: the unit that documents end in, where attention is to stay inside them."""
        torch.manual_seed(spec.seed)
        self.spec, self.world = spec, world
        self.device = choose_device(spec.device)
        self.dtype = choose_dtype(spec.precision, self.device)
        self.feed = Feed(windows, spec.seed, spec.batch, vocabulary, self.device, world)
        self.model = Transformer(spec.shape(vocabulary), spec.preset)
        self.forward = self._ready(self.model)
        loss = partial(_mean_loss, self.forward, self.dtype, eos)
        # Of shared matrices the blocks are compiled one by one, between the gatherings.
        self.loss = torch.compile(loss) if spec.compile and not isinstance(self.model, FSDPModule) else loss
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        gains = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": gains, "weight_decay": 0.0}],
            betas=(0.9, 0.95),
            fused=True,
        )
        # On a GPU, loss and gradient norm of the last update and 1 from the first on that is no number stay on the
        # device: reading them at every step would make it wait for the machine that feeds it.
        self.defers = self.device.type != "cpu"
        self._last = torch.zeros(2, device=self.device)
        self._stopped = torch.zeros((), device=self.device)
        self._stopped_at = torch.zeros((), device=self.device, dtype=torch.long)

    def _ready(self, model: Transformer) -> nn.Module:
        """What is called in training: recomputing, and shared as the spec says."""
        spec = self.spec
        if spec.activation_checkpointing:
            for block in model.blocks:
                # Inside the block's own call, so that FSDP has gathered its matrices when they are used again.
                setattr(block, "forward", partial(checkpoint, block.forward, use_reentrant=False))  # noqa: B010
        if self.world.size > 1 and spec.parallel == "fsdp":
            if spec.compile:
                for block in model.blocks:
                    block.compile()
            shard(model, self.device, self.world)
            return model
        return synchronised(model.to(self.device), spec.parallel, self.device, self.world)

    def update(self, step: int) -> float:
        """One step, read at once; returns the training loss.

        Raises:
            NotFinite: before anything was changed.
        """
        self.advance(step, self.feed.read(step).to(self.device))
        return self.read(step).loss

    def advance(self, step: int, batch: Tensor) -> None:
        """One step on this process's share of the batch; `read` tells what came of it."""
        spec = self.spec
        with _memory_named(
            f"step {step} with {_at_once(spec, len(batch))} sequences of {spec.context} per forward pass",
            _smaller(spec, len(batch)),
        ):
            loss = self._accumulate(batch)
            norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP))
        self._last, before = torch.stack((self.world.sum(loss), norm.to(loss.dtype))), self._last
        if self.defers:
            self._remember(step, before)
        else:
            self.read(step)
        rate = learning_rate(
            step,
            spec.steps,
            spec.peak_lr,
            spec.preset,
            spec.schedule,
            spec.warmup_steps,
            spec.decay,
            spec.final,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with _memory_named(f"step {step} for the optimiser's state", _SHARE):  # which the first step makes
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _remember(self, step: int, before: Tensor) -> None:
        """Have this update and all later ones refused from the first on that is not finite, without looking."""
        stopped = self._stopped > 0
        finite = torch.isfinite(self._last).all()
        self._last = torch.where(stopped, before, self._last)
        self._stopped_at = torch.where(finite | stopped, self._stopped_at, step)
        self._stopped = torch.maximum(self._stopped, 1.0 - finite.float())
        # The fused kernel leaves everything as it is when this is 1, as it does for a gradient scaler.
        self.optimizer.found_inf = self._stopped  # type: ignore[attr-defined]

    def _accumulate(self, batch: Tensor) -> Tensor:
        """Gradients of the mean over the whole batch; returns this process's part of that mean."""
        spec, world = self.spec, self.world
        parts = batch.split(spec.micro_batch or len(batch))
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts):
            with no_sync(self.forward, last=number == len(parts) - 1):
                loss = self.loss(part)
                # The processes' gradients are averaged; wanted is the sum of their parts of one mean.
                (loss * (len(part) * world.size / spec.batch)).backward()
            total = total + loss.detach() * (len(part) / spec.batch)
        return total

    def read(self, step: int) -> StepMetrics:
        """Loss and gradient norm of the last update, which was `step`; waits for the device.

        Raises:
            NotFinite: one of the updates since the last reading was refused.
        """
        loss, norm = self._last.tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            at = int(self._stopped_at.item()) if self.defers else step
            raise NotFinite(f"step {at}: loss {loss}, gradient norm {norm}")
        return StepMetrics(step, loss, norm)


def _mean_loss(forward: nn.Module, dtype: torch.dtype, eos: int | None, batch: Tensor) -> Tensor:
    """Nats per token of windows int64 [B, T + 1]; `eos` where attention is to stay inside documents."""
    inputs, targets = batch[:, :-1], batch[:, 1:]
    attention_mask = document_mask(inputs, eos) if eos is not None else None
    with torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        logits = forward(inputs, attention_mask)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@contextmanager
def _memory_named(where: str, advice: str) -> Iterator[None]:
    """Says which knob to turn when memory runs out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(
            error
        ):
            raise
        raise UserError(f"out of memory at {where}; {advice}.") from error


def _smaller(spec: RunSpec, sequences: int) -> str:
    """What makes a forward and backward pass of a process that has so many sequences need less memory."""
    now = _at_once(spec, sequences)
    if now > 1:
        return f"set micro_batch = {now // 2}"
    return _SHARE if spec.activation_checkpointing else "set activation_checkpointing = true"


def _at_once(spec: RunSpec, sequences: int) -> int:
    """Sequences of one forward pass."""
    return min(spec.micro_batch or sequences, sequences)
