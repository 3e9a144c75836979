"""This machine: the tasks of a stage, spread over worker processes of one thread each.

One thread a worker keeps results independent of how many workers there are, and small models train faster so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from speechscale.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
_POLL = 0.5  # seconds between looks at how far the workers are


def default_workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    label: str,
    workers: int,
    weight: Callable[[Task], float] = lambda _: 1.0,
    fraction: Callable[[Task], float] = lambda _: 0.0,
) -> Iterator[tuple[Task, Result]]:
    """Do all tasks in order of the list; yields (task, result) as they finish.

    The bar advances by `weight` (a task's share of the work); `fraction` says how far a task in progress is.
    When one task fails, no further one is started and the error is raised; when the caller stops, workers are ended.
    """
    if not tasks:
        return
    total = sum(weight(task) for task in tasks)
    with _pool(min(workers, len(tasks))) as pool, progress_bar() as bar:
        row = bar.add_task(label, total=total)
        pending: dict[Future[Result], Task] = {pool.submit(work, task): task for task in tasks}
        finished = 0.0
        while pending:
            done, _ = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                task = pending.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        f"{label}: a worker process was ended from outside, perhaps for memory; run the same command "
                        "again to go on, with fewer --workers if it happens again."
                    ) from error
                yield task, result
                finished += weight(task)
            underway = sum(
                weight(task) * fraction(task) for future, task in pending.items() if future.running()
            )
            bar.update(row, completed=finished + underway)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh single-threaded processes, ended at once when the block is left by an error or an interrupt."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))  # read by the libraries when a worker starts
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with(parent: int) -> None:
    """End this worker when its parent is gone: a killed study must not go on writing beside the next one.

    Ctrl-C reaches every process of a terminal; the parent alone answers it, by ending its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def progress_bar() -> Progress:
    """A bar with remaining time on a terminal; silent when piped."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def busy(label: str) -> Iterator[None]:
    """A moving bar for work whose end cannot be foreseen."""
    with progress_bar() as bar:
        bar.add_task(label, total=None)
        yield


class Stopwatch:
    """Seconds per stage, in order; a stage entered twice adds up."""

    def __init__(self, before: dict[str, float]) -> None:
        self.seconds = dict(before)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
