"""Model, optimiser and batches of one run, and the update of a step.

The recipe is the study's, scaled down: AdamW with beta (0.9, 0.95), weight decay 0.1 on matrices, gradients clipped at
norm 1. An update is the mean over the tokens of the whole batch, however many processes and forward passes share it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from speechscale.compute import choose_device, choose_dtype
from speechscale.errors import UserError
from speechscale.model.transformer import Transformer, document_mask
from speechscale.train.distributed import (
    SINGLE_PROCESS,
    DistributedContext,
    apply_fsdp,
    full_tensor,
    local_batch_size,
    no_sync,
    wrap_ddp,
)
from speechscale.train.spec import RunSpec

MAX_GRADIENT_NORM = 1.0
# Tokens that are read and handed over at a time: for the batches of a tiny run, one by one, the handing over would
# take longer than the reading.
_CHUNK_TOKENS = 2**16
_PREFETCHED_CHUNKS = 2
_MORE_PROCESSES = 'start more processes with parallel = "fsdp", or choose a smaller model or context'


class NonFiniteError(ArithmeticError):
    """Loss or gradient is infinite or NaN; neither that update nor a later one was made."""


@dataclass(frozen=True)
class StepMetrics:
    """Loss (nats per token) and gradient norm of one update, over the whole batch."""

    step: int
    loss: float
    gradient_norm: float


class BatchSource(Protocol):
    """Endless numbered windows of a corpus, or of a mixture of several."""

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """int64 [size, context + 1]: the windows from number step * size on."""


class BatchLoader:
    """This process's share of the batch of each step, read in the background.

    Attributes:
        wait_seconds: how long training has waited for batches so far.
    """

    def __init__(
        self,
        source: BatchSource,
        spec: RunSpec,
        vocabulary: int,
        device: torch.device,
        context: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Prepare reading; nothing is read yet.

        Args:
            source: windows of units.
            spec: gives seed and batch size.
            vocabulary: units of the model; others are refused.
            device: where batches go.
            context: this process among those of the run.

        Raises:
            UserError: the batch cannot be shared evenly.
        """
        self._source, self._seed, self._vocabulary = source, spec.seed, vocabulary
        self._device, self._context = device, context
        self._size = local_batch_size(spec.batch, context)
        self.wait_seconds = 0.0

    def local_batch(self, step: int) -> Tensor:
        """int64 [local batch, context + 1], in page-locked memory where the device is a GPU.

        The batch is a pure function of seed and step. Of w processes with shares of n windows, process r gets the n
        windows from number (step * w + r) * n on.

        Raises:
            UserError: a unit that the model has no embedding for.
        """
        number = step * self._context.size + self._context.rank
        rows = self._source.batch(self._seed, number, self._size)
        if rows.max() >= self._vocabulary or rows.min() < 0:
            raise UserError(
                f"the batch of step {step} has units from {rows.min()} to {rows.max()}, but the model's vocabulary "
                f"ends at {self._vocabulary - 1}: vocab_size in the shards' meta.json is wrong; encode them again."
            )
        batch = torch.from_numpy(rows)
        return batch.pin_memory() if self._device.type == "cuda" else batch

    @contextmanager
    def prefetch(self, start: int, stop: int) -> Iterator[Iterator[Tensor]]:
        """The batches of steps `start` to `stop` on the device; a thread reads ahead inside the block."""
        reader = ThreadPoolExecutor(1, thread_name_prefix="batch-loader")
        try:
            yield self._prefetched(reader, start, stop)
        finally:
            reader.shutdown(wait=True, cancel_futures=True)

    def _prefetched(self, reader: ThreadPoolExecutor, start: int, stop: int) -> Iterator[Tensor]:
        if start >= stop:
            return
        first = self.local_batch(start)
        yield self._to_device(first)
        chunk = max(1, _CHUNK_TOKENS // first.numel())
        pending: deque[Future[list[Tensor]]] = deque()
        submitted = start + 1
        while pending or submitted < stop:
            while submitted < stop and len(pending) < _PREFETCHED_CHUNKS:
                end = min(stop, submitted + chunk)
                pending.append(reader.submit(self._local_batches, range(submitted, end)))
                submitted = end
            started = time.perf_counter()
            batches = pending.popleft().result()
            self.wait_seconds += time.perf_counter() - started
            yield from map(self._to_device, batches)

    def _local_batches(self, steps: range) -> list[Tensor]:
        return [self.local_batch(step) for step in steps]

    def _to_device(self, batch: Tensor) -> Tensor:
        return batch.to(self._device, non_blocking=True)


class Trainer:
    """Model, optimiser and batches of a run; makes its updates."""

    def __init__(
        self,
        spec: RunSpec,
        vocabulary: int,
        source: BatchSource,
        *,
        eos: int | None = None,
        context: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Initialise the model from the spec's seed.

        Args:
            spec: size, recipe and precision.
            vocabulary: units, EOS and padding included.
            source: windows of units.
            eos: the unit that ends a document, where attention stays inside documents; None where it does not.
            context: this process among those of the run.
        """
        torch.manual_seed(spec.seed)
        self.spec, self.context = spec, context
        self.device = choose_device(spec.device)
        self.dtype = choose_dtype(spec.precision, self.device)
        self.loader = BatchLoader(source, spec, vocabulary, self.device, context)
        self.model = Transformer(spec.shape(vocabulary), spec.preset)
        self.training_module = self._parallelize(self.model)
        loss = partial(_mean_loss, self.training_module, self.dtype, eos)
        # FSDP gathers the matrices of a block before its call, so there the blocks are compiled one by one.
        self.loss_function = (
            torch.compile(loss) if spec.compile and not isinstance(self.model, FSDPModule) else loss
        )
        self.learning_rate = spec.learning_rate
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        gains = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": gains, "weight_decay": 0.0}],
            betas=(0.9, 0.95),
            fused=True,
        )
        # On a GPU, loss and gradient norm of the last update and a flag for non-finite ones stay on the device:
        # reading them at every step would make the GPU wait for the CPU.
        self.defer_metrics = self.device.type != "cpu"
        self._loss_and_norm = torch.zeros(2, device=self.device)
        self._found_non_finite = torch.zeros((), device=self.device)  # 1 from the first non-finite update on
        self._non_finite_step = torch.zeros((), device=self.device, dtype=torch.long)

    def _parallelize(self, model: Transformer) -> nn.Module:
        """The module to call in training: with activation checkpointing, DDP or FSDP as the spec says."""
        spec = self.spec
        if spec.activation_checkpointing:
            for block in model.blocks:
                # Inside the block's own call, so that FSDP has gathered its matrices when they are used again.
                setattr(block, "forward", partial(checkpoint, block.forward, use_reentrant=False))  # noqa: B010
        if self.context.size > 1 and spec.parallel == "fsdp":
            if spec.compile:
                for block in model.blocks:
                    block.compile()
            apply_fsdp(model, self.device, self.context)
            return model
        return wrap_ddp(model.to(self.device), spec.parallel, self.device, self.context)

    def load_and_train_step(self, step: int) -> float:
        """Read the batch of a step and make its update; returns the training loss.

        Raises:
            NonFiniteError: loss or gradient is not finite; nothing was changed.
        """
        self.train_step(step, self.loader.local_batch(step).to(self.device))
        return self.step_metrics(step).loss

    def train_step(self, step: int, batch: Tensor) -> None:
        """Make one update; `step_metrics` reads its loss.

        Args:
            step: its number, from 0.
            batch: int64 [local batch, context + 1], this process's share, on the device.

        Raises:
            NonFiniteError: on a CPU, where loss or gradient is not finite; on a GPU `step_metrics` says so.
            UserError: out of memory; the sentence names the setting to change.
        """
        spec = self.spec
        with _explain_out_of_memory(
            f"step {step} with {_micro_batch(spec, len(batch))} sequences of {spec.context} per forward pass",
            _smaller_passes(spec, len(batch)),
        ):
            loss = self._accumulate_gradients(batch)
            norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM))
        previous = self._loss_and_norm
        self._loss_and_norm = torch.stack((self.context.all_reduce_sum(loss), norm.to(loss.dtype)))
        if self.defer_metrics:
            self._skip_updates_from_non_finite_on(step, previous)
        else:
            self.step_metrics(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate.at(step)
        # The first step allocates the optimiser's state.
        with _explain_out_of_memory(f"step {step} for the optimiser's state", _MORE_PROCESSES):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _skip_updates_from_non_finite_on(self, step: int, previous: Tensor) -> None:
        """From the first non-finite update on, make the optimiser skip its steps, without waiting for the device."""
        stopped = self._found_non_finite > 0
        finite = torch.isfinite(self._loss_and_norm).all()
        self._loss_and_norm = torch.where(stopped, previous, self._loss_and_norm)
        self._non_finite_step = torch.where(finite | stopped, self._non_finite_step, step)
        self._found_non_finite = torch.maximum(self._found_non_finite, 1.0 - finite.float())
        # The fused kernel changes nothing where this is 1: it is how a gradient scaler has it skip a step.
        self.optimizer.found_inf = self._found_non_finite  # type: ignore[attr-defined]

    def _accumulate_gradients(self, batch: Tensor) -> Tensor:
        """Backward passes of the mean loss over the whole batch; returns this process's part of that mean."""
        spec, size = self.spec, self.context.size
        micro_batches = torch.split(batch, spec.micro_batch or len(batch))
        total = torch.zeros((), device=self.device)
        for number, micro_batch in enumerate(micro_batches):
            with no_sync(self.training_module, last=number == len(micro_batches) - 1):
                loss = self.loss_function(micro_batch)
                # DDP and FSDP average gradients over the processes; the update needs their sum.
                torch.autograd.backward(loss * (len(micro_batch) * size / spec.batch))
            total = total + loss.detach() * (len(micro_batch) / spec.batch)
        return total

    def step_metrics(self, step: int) -> StepMetrics:
        """Loss and gradient norm of the last update, which must be that of `step`; waits for the device.

        Raises:
            NonFiniteError: an update since the last call was not finite and was not made.
        """
        loss, norm = self._loss_and_norm.tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            at = int(self._non_finite_step.item()) if self.defer_metrics else step
            raise NonFiniteError(f"step {at}: loss {loss}, gradient norm {norm}")
        return StepMetrics(step, loss, norm)


def _mean_loss(module: nn.Module, dtype: torch.dtype, eos: int | None, batch: Tensor) -> Tensor:
    """Nats per token, float32 scalar.

    Args:
        module: tokens and attention mask to logits.
        dtype: of the matrix products.
        eos: where attention stays inside documents, the unit that ends them.
        batch: int64 [B, T + 1].
    """
    inputs, targets = batch[:, :-1], batch[:, 1:]
    attention_mask = document_mask(inputs, eos) if eos is not None else None
    with torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        logits = module(inputs, attention_mask)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@contextmanager
def _explain_out_of_memory(where: str, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error into a sentence that names the setting to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not out_of_memory and "can't allocate memory" not in str(error):
            raise
        raise UserError(f"out of memory at {where}; {advice}.") from error


def _smaller_passes(spec: RunSpec, sequences: int) -> str:
    """How to make the passes of a process with so many sequences need less memory."""
    size = _micro_batch(spec, sequences)
    if size > 1:
        return f"set micro_batch = {size // 2}"
    return _MORE_PROCESSES if spec.activation_checkpointing else "set activation_checkpointing = true"


def _micro_batch(spec: RunSpec, sequences: int) -> int:
    """Sequences of one forward pass."""
    return min(spec.micro_batch or sequences, sequences)
