"""Data-parallel training: the process group of a run, shares of a batch, DDP and FSDP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer
from speechscale.train.spec import Parallel


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process and number of processes of its run, and their collective operations."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """`values` summed over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()

    def require_equal(self, number: int, name: str) -> None:
        """Require that the processes have the same number.

        Raises:
            UserError: they have not; on all of them.
        """
        if self.size == 1:
            return
        found: list[int] = [0] * self.size
        dist.all_gather_object(found, number)
        if len(set(found)) > 1:
            raise UserError(
                f"the processes of this run see different {name}: {', '.join(map(str, found))}; the output folder must "
                "be on a disk that all of them share."
            )


SINGLE_PROCESS = DistributedContext()

# destroy_process_group waits for the threads of gloo, and one of these may be waiting for Python's lock, to free a
# tensor. DDP's reducer holds a reference to the group too, and the lock while it frees it: if its reference were the
# last one, both would wait forever (seen once in a hundred runs of torch 2.13). A reference kept here ends with the
# process instead.
_DESTROYED_GROUPS: list[dist.ProcessGroup | None] = []


@contextmanager
def distributed_context(device: torch.device) -> Iterator[DistributedContext]:
    """The process group of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as `torchrun` sets them; else one process.

    A group that the caller has initialised is used and not destroyed.

    Raises:
        UserError: WORLD_SIZE is set without the others.
    """
    if dist.is_initialized():
        yield DistributedContext(dist.get_rank(), dist.get_world_size())
        return
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE = {size} says that {size} processes share this run, but {', '.join(missing)} is not set; "
            "start them with torchrun, or unset WORLD_SIZE."
        )
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    try:
        yield DistributedContext(dist.get_rank(), size)
    finally:
        _DESTROYED_GROUPS.append(dist.group.WORLD)
        dist.destroy_process_group()


def require_world_size(processes: int, context: DistributedContext) -> None:
    """Require as many processes as the run's spec asks for; 1 accepts any number.

    Raises:
        UserError: another number was started.
    """
    if processes not in (1, context.size):
        raise UserError(
            f"processes = {processes}, but {context.size} read this run; start it with `torchrun --nproc-per-node "
            f"{processes} -m speechscale.cli train …`, or leave `processes` out."
        )


def local_batch_size(batch: int, context: DistributedContext) -> int:
    """Sequences of an update that each process reads.

    Raises:
        UserError: the batch cannot be shared evenly.
    """
    if batch % context.size:
        fewer = next(size for size in range(min(context.size, batch), 0, -1) if batch % size == 0)
        raise UserError(
            f"batch = {batch} sequences cannot be shared evenly by {context.size} processes; start {fewer} of them, or "
            f"set batch to a multiple of {context.size}, such as {-(-batch // context.size) * context.size}."
        )
    return batch // context.size


def apply_fsdp(model: Transformer, device: torch.device, context: DistributedContext) -> None:
    """Shard every matrix over the processes (FSDP2), block by block, in place."""
    mesh = dist.device_mesh.init_device_mesh(device.type, (context.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def wrap_ddp(
    model: Transformer, parallel: Parallel, device: torch.device, context: DistributedContext
) -> nn.Module:
    """The module to call in training, whose gradients are averages over the processes after a backward pass.

    Args:
        model: on `device`.
        parallel: `ddp` wraps the model; `fsdp` leaves it as it is.
        device: of this process.
        context: with one process the model is left as it is.
    """
    if context.size == 1 or parallel == "fsdp":
        return model
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(
        model, device_ids=device_ids, gradient_as_bucket_view=True, static_graph=False
    )


@contextmanager
def no_sync(module: nn.Module, last: bool) -> Iterator[None]:
    """Average the gradients over the processes at the last backward pass of an update only."""
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
        return
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    yield


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded; a collective operation, which every process must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's shard of `value`, placed as `like` is; all of `value` where `like` is not sharded."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device)
