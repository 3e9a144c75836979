"""Worker processes on a Ray cluster, or on a Ray instance started on this machine. The only module that uses Ray.

A worker is an actor, because a process that keeps its model in memory is needed. Ray retries nothing itself: the
scheduler replaces an actor that died with its process or its machine, and Ray places the new one wherever there is
room. An actor that still waits for room holds no task. Every machine needs the same installation of speechscale, and
the same files under the same paths.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from speechscale.compute import SINGLE_THREAD_ENV, available_cores
from speechscale.errors import UserError
from speechscale.workers.pool import LostWorker, Worker, WorkerPool, map_errors, slots_for

if TYPE_CHECKING:
    from ray.exceptions import RayError

Task = TypeVar("Task")
Result = TypeVar("Result")
_OBJECT_STORE_BYTES = 80 * 2**20  # tasks and results are small, and Ray requires at least 75 MiB


class RayBackend:
    """Ray actors: one per CPU, or one per GPU where the tasks use GPUs; with the processes that each task starts."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        """Without an address (here or in RAY_ADDRESS), Ray is started on this machine.

        Raises:
            UserError: Ray is not installed.
        """
        try:
            # Both are read when Ray is imported: no usage statistics, and no warning about a future default.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            import ray  # noqa: F401
        except ImportError as error:
            raise UserError("--engine ray needs Ray: pip install 'speechscale[ray]'.") from error
        self._workers = workers
        self._address = address or os.environ.get("RAY_ADDRESS")

    @contextmanager
    def pool(self, tasks: int, *, gpu: bool, processes: int = 1) -> Iterator[WorkerPool]:
        """Actors that end with the block; Ray itself stays up for the next pool.

        Args:
            tasks: upper bound of the number of slots.
            gpu: whether the tasks use GPUs, where there are any.
            processes: processes that each task starts.

        Raises:
            UserError: Ray cannot be used, or no machine has enough GPUs for one task.
        """
        import ray

        if not ray.is_initialized():
            self._connect()
        gpus, cores = (_count_by_machine(kind) for kind in ("GPU", "CPU"))
        gpus = gpus if gpu else [0]
        available = sum(count // processes for count in gpus if count >= processes)
        if not available:  # no GPU at all, or no machine with enough of them
            available = slots_for(processes, max(gpus), sum(cores))
        slots = min(self._workers or available, tasks)
        resources = {"num_cpus": max(1, min(processes, max(cores))), "num_gpus": 0.0}
        if any(gpus):
            shared = 1 / math.ceil(slots / available)  # more workers than GPUs
            resources = {"num_cpus": 1, "num_gpus": processes if processes > 1 else shared}
        pool = _RayPool(slots, resources)
        try:
            yield pool
        finally:
            pool.terminate()

    def _connect(self) -> None:
        import ray

        ray._private.worker._worker_logs_enabled = False  # otherwise Ray reports lost workers on stdout
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        sigterm_handler = signal.getsignal(signal.SIGTERM)
        try:
            if self._address:
                ray.init(self._address, **quiet)
            else:
                ray.init(
                    "local",
                    num_cpus=self._workers or available_cores(),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **quiet,
                )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"Ray {where} cannot be used ({reason}); check --ray-address and `ray status`."
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray replaces the handler with which the command line terminates workers.
                signal.signal(signal.SIGTERM, sigterm_handler)


def _count_by_machine(kind: str) -> list[int]:
    """Number of GPUs or CPUs of each machine of the cluster."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [int(node["Resources"].get(kind, 0)) for node in nodes if node["Alive"]]


class _RayPool:
    def __init__(self, slots: int, resources: dict[str, float]) -> None:
        """`resources`: the CPUs and GPUs of one machine that Ray reserves for each worker."""
        import ray

        self.slots = slots
        self._actor_class = ray.remote(_Actor).options(
            **resources,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": SINGLE_THREAD_ENV},
        )
        self._workers: dict[int, _RayWorker] = {}

    def spawn(self, slot: int) -> Worker:
        self._workers[slot] = _RayWorker(self._actor_class.remote())
        return self._workers[slot]

    def terminate(self) -> None:
        for worker in self._workers.values():
            worker.terminate()


class _Actor:
    """The code that runs in a worker process of Ray."""

    def call(self, function: Callable[[Task], Result], task: Task) -> Result:
        return function(task)


class _RayWorker:
    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        return map_errors(self._actor.call.remote(function, task).future(), _without_ray)

    def terminate(self) -> None:
        import ray

        ray.kill(self._actor)


def _without_ray(error: BaseException) -> BaseException:
    """The task's own error, or `LostWorker`."""
    from ray.exceptions import RayError, RayTaskError

    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, RayTaskError):
        return _unreadable_task(error.cause) if isinstance(error.cause, RayError) else error.cause
    return LostWorker(f"Ray lost the worker: {reason}") if isinstance(error, RayError) else error


def _unreadable_task(error: RayError) -> UserError:
    """The task did not start: its worker could not unpack it."""
    reason = str(error).splitlines()[0]
    return UserError(
        f"a Ray worker cannot read its task ({reason}); every machine needs the same installation."
    )
