"""Several processes of one run on this machine, with the environment that torchrun gives them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["speechscale.train.loop"])  # imports torch once for all processes


def run_on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns in each of `size` processes of one run, by rank; raises their first error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with ProcessPoolExecutor(size, mp_context=FORKSERVER) as pool:
        ranks = [pool.submit(_run_as_rank, rank, size, port, function, arguments) for rank in range(size)]
        try:
            return [rank.result(timeout=120) for rank in ranks]
        except BaseException:
            for process in list(pool._processes.values()):  # they may wait for one another
                process.kill()
            raise


def _run_as_rank(
    rank: int, size: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    import torch

    torch.set_num_threads(1)
    environment = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in environment.items()})
    return function(*arguments)
