"""Worker processes on this machine: one per core, or one per GPU where the tasks use GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from speechscale.compute import SINGLE_THREAD_ENV, available_cores, visible_gpus
from speechscale.workers.pool import POLL_SECONDS, LostWorker, Worker, WorkerPool, map_errors, slots_for

Task = TypeVar("Task")
Result = TypeVar("Result")


class LocalBackend:
    """Worker processes on this machine."""

    def __init__(self, workers: int | None = None) -> None:
        """`workers`: their number; by default one per core, or one per GPU where the tasks use GPUs."""
        self._workers = workers

    @contextmanager
    def pool(self, tasks: int, *, gpu: bool, processes: int = 1) -> Iterator[WorkerPool]:
        """New processes, terminated immediately when the block ends with an error or an interrupt.

        Args:
            tasks: upper bound of the number of slots.
            gpu: whether the tasks use GPUs, where there are any.
            processes: processes that each task starts.

        Raises:
            UserError: there are GPUs, but too few for one task.
        """
        gpus = visible_gpus() if gpu else []
        available = slots_for(processes, len(gpus), available_cores())
        before = {name: os.environ.get(name) for name in SINGLE_THREAD_ENV}
        os.environ.update(SINGLE_THREAD_ENV)  # numerical libraries read it when a worker starts
        pool = _LocalPool(min(self._workers or available, tasks), gpus, processes)
        try:
            yield pool
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.close()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


class _LocalPool:
    def __init__(self, slots: int, gpus: Sequence[str], processes: int) -> None:
        self.slots = slots
        self._gpus, self._processes = gpus, processes
        self._workers: dict[int, _LocalWorker] = {}

    def spawn(self, slot: int) -> Worker:
        numbers = range(slot * self._processes, (slot + 1) * self._processes)
        gpus = ",".join(self._gpus[number % len(self._gpus)] for number in numbers) if self._gpus else None
        self._workers[slot] = _LocalWorker(gpus)
        return self._workers[slot]

    def terminate(self) -> None:
        for worker in self._workers.values():
            worker.terminate()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.executor.shutdown(wait=True, cancel_futures=True)


class _LocalWorker:
    """An executor with one process, so that its death affects its own task alone."""

    def __init__(self, gpus: str | None) -> None:
        self.executor = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=(os.getpid(), gpus),
        )

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        try:
            return map_errors(self.executor.submit(function, task), _as_lost_worker)
        except BrokenProcessPool as error:  # the process died while idle
            lost: Future[Result] = Future()
            lost.set_exception(_as_lost_worker(error))
            return lost

    def terminate(self) -> None:
        for process in list((self.executor._processes or {}).values()):
            process.terminate()
        self.executor.shutdown(wait=True, cancel_futures=True)


def _as_lost_worker(error: BaseException) -> BaseException:
    if isinstance(error, BrokenProcessPool):
        return LostWorker("the worker process was killed from outside, perhaps for memory")
    return error


def _initialise(parent: int, gpus: str | None) -> None:
    """Set the GPUs of this worker, and exit when the parent process is gone, so that no orphan continues to write.

    Ctrl-C reaches every process of a terminal. Workers ignore it; the parent handles it and terminates them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
