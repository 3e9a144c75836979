"""Several processes of one run on this machine, started as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["speechscale.train.loop"])  # so that torch is imported once for all of them


def in_processes(size: int, job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `job(*arguments)` returns in each of `size` processes of one run, by rank; an error in one is raised."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(size, mp_context=CONTEXT) as pool:
        ranks = [pool.submit(_as_rank, rank, size, port, job, arguments) for rank in range(size)]
        try:
            return [rank.result(timeout=120) for rank in ranks]
        except BaseException:
            for process in list(pool._processes.values()):  # they may wait for one another
                process.kill()
            raise


def _as_rank(rank: int, size: int, port: int, job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import torch

    torch.set_num_threads(1)
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in place.items()})
    return job(*arguments)
