"""The processes of one run: who they are, what they agree on, and how they share a model."""

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
class World:
    """This process among those of its run, as `torchrun` numbers them."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def require_same(self, number: int, what: str) -> None:
        """Stop when the processes do not agree.

        Raises:
            UserError: they do not; on all of them.
        """
        if self.size == 1:
            return
        found: list[int] = [0] * self.size
        dist.all_gather_object(found, number)
        if len(set(found)) > 1:
            raise UserError(
                f"the processes of this run see different {what}: {', '.join(map(str, found))}; the output folder must "
                "lie on a disk that all of them share."
            )


ALONE = World()

# A gloo group ends by waiting for its threads, and one of these may be about to take Python's lock, to let go of a
# tensor. DDP's reducer holds the group too, and that lock while it goes: were it the last to hold the group, both would
# wait forever (seen once in a hundred runs of torch 2.13). A group that is kept here ends with the process.
_ENDED: list[dist.ProcessGroup | None] = []


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that `torchrun` (or its variables RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) describes; else alone.

    A group that the caller has made is used and left as it is.

    Raises:
        UserError: WORLD_SIZE stands without the others.
    """
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size())
        return
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
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
        yield World(dist.get_rank(), size)
    finally:
        _ENDED.append(dist.group.WORLD)
        dist.destroy_process_group()


def require_processes(wanted: int, world: World) -> None:
    """Stop when a run that asks for several processes was not started with so many; 1 asks for none.

    Raises:
        UserError: it was not.
    """
    if wanted not in (1, world.size):
        raise UserError(
            f"processes = {wanted}, but {world.size} read this run; start it with `torchrun --nproc-per-node {wanted} "
            "-m speechscale.cli train …`, or leave `processes` out."
        )


def share_of_batch(batch: int, world: World) -> int:
    """Sequences of an update that each process reads.

    Raises:
        UserError: they cannot be shared evenly.
    """
    if batch % world.size:
        fewer = next(size for size in range(min(world.size, batch), 0, -1) if batch % size == 0)
        raise UserError(
            f"batch = {batch} sequences cannot be shared evenly by {world.size} processes; start {fewer} of them, or "
            f"set batch to a multiple of {world.size}, such as {-(-batch // world.size) * world.size}."
        )
    return batch // world.size


def shard(model: Transformer, device: torch.device, world: World) -> None:
    """Leave each process its share of every matrix (FSDP2), block by block, in place."""
    mesh = dist.device_mesh.init_device_mesh(device.type, (world.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def synchronised(model: Transformer, parallel: Parallel, device: torch.device, world: World) -> nn.Module:
    """The module to call for training: gradients are averages over the processes after a backward pass."""
    if world.size == 1 or parallel == "fsdp":
        return model
    places = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=places, gradient_as_bucket_view=True, static_graph=False)


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


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that the processes may share; every one of them must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's share of `value`, cut as `like` is; `value` itself where `like` is whole."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device)
