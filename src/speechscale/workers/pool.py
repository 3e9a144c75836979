"""Scheduling of independent tasks on a pool of worker processes, with retries.

A worker is one process with one thread that executes one task at a time. Results therefore do not depend on the number
of workers, and a worker that dies takes no other task with it. Pending tasks stay in this process, so memory is
bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from speechscale.errors import UserError
from speechscale.records.code import adopt_code_identity, code_identity
from speechscale.workers.failures import Failure, attempt
from speechscale.workers.progress import progress_bar

Task = TypeVar("Task")
Result = TypeVar("Result")
POLL_SECONDS = 0.5  # between two checks of the progress of running tasks
_MAX_ATTEMPTS = 3  # of a task that fails for a retryable reason


class LostWorker(Exception):
    """The process of a task ended before the task did."""


class Worker(Protocol):
    """One process that executes one task at a time."""

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        """Start a task. The future raises what the task raised, or `LostWorker`."""
        ...

    def terminate(self) -> None:
        """End the process immediately."""
        ...


class WorkerPool(Protocol):
    """A fixed number of slots, each of which holds one worker process."""

    slots: int

    def spawn(self, slot: int) -> Worker:
        """Start the worker of a slot, in place of the one that was there."""
        ...


class Backend(Protocol):
    """Where worker processes run: this machine, or a Ray cluster."""

    def pool(self, tasks: int, *, gpu: bool, processes: int = 1) -> AbstractContextManager[WorkerPool]:
        """A pool that ends with the `with` block.

        Args:
            tasks: upper bound of the number of slots.
            gpu: whether the tasks use GPUs, where there are any.
            processes: processes that each task starts; it gets a GPU or a core for each.

        Raises:
            UserError: there are GPUs, but no machine has enough of them for one task.
        """
        ...


@dataclass(frozen=True)
class Workload(Generic[Task]):
    """What the scheduler has to know about the tasks of one call.

    Attributes:
        label: the description on the progress bar and in error messages.
        gpu: whether the tasks use GPUs, where there are any.
        processes: processes that each task starts.
        weight: the share of a task in the total work.
        fraction: the completed fraction (0 to 1) of a running task.
        on_retry: the task to execute after a failed attempt, for example with a smaller batch.
    """

    label: str
    gpu: bool = False
    processes: int = 1
    weight: Callable[[Task], float] = lambda _: 1.0
    fraction: Callable[[Task], float] = lambda _: 0.0
    on_retry: Callable[[Task, Failure], Task] = lambda task, _: task


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    backend: Backend,
    label: str,
    weight: Callable[[Task], float] = lambda _: 1.0,
) -> Iterator[tuple[Task, Result]]:
    """Execute all tasks; the first error ends the call.

    A task whose worker died is retried. After an error no further task is started and the error is raised. When the
    caller stops iterating, the workers are terminated.

    Args:
        function: what is applied to each task; importable by worker processes.
        tasks: in the order in which they are started.
        backend: where the workers run.
        label: the description on the progress bar.
        weight: the share of a task in the total work.

    Yields:
        (task, result) pairs in the order of completion.

    Raises:
        UserError: the workers of one task died in every attempt.
        Exception: whatever a task raised.
    """
    for task, outcome in _schedule(function, tasks, backend, Workload(label, weight=weight)):
        if isinstance(outcome, Failure):
            raise UserError(
                f"{label}: {_MAX_ATTEMPTS} worker processes in a row were killed from outside, perhaps for memory; run "
                "the same command again to continue, with fewer --workers if it happens again."
            )
        yield task, outcome


def try_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    backend: Backend,
    workload: Workload[Task],
) -> Iterator[tuple[Task, Result | Failure]]:
    """Execute all tasks; a task that fails yields a `Failure`, and the others continue.

    Lack of memory, input/output errors and a lost worker or device are retryable: the task is attempted again after all
    others, as changed by `workload.on_retry`. A `UserError` is raised, because it would affect the other tasks as well.

    Args:
        function: what is applied to each task; importable by worker processes.
        tasks: in the order in which they are started.
        backend: where the workers run.
        workload: label, resources, weights and retry rule of the tasks.

    Yields:
        (task, result or failure) pairs in the order of completion.

    Raises:
        UserError: raised by a task.
    """
    return _schedule(partial(attempt, function), tasks, backend, workload)


def slots_for(processes: int, gpus: int, cores: int) -> int:
    """Number of tasks of `processes` processes each that fit on the GPUs, or on the cores where there is no GPU.

    Raises:
        UserError: there are GPUs, but too few for one task.
    """
    if 0 < gpus < processes:
        raise UserError(
            f"processes = {processes} needs one GPU for each process, but a machine has only {gpus}; set it to "
            f"{gpus} at most."
        )
    return max(1, (gpus or cores) // processes)


def map_errors(future: Future[Result], translate: Callable[[BaseException], BaseException]) -> Future[Result]:
    """A future with the same result, whose error is `translate` of the original error."""
    outer: Future[Result] = Future()

    def forward(inner: Future[Result]) -> None:
        if inner.cancelled():
            outer.cancel()
        elif error := inner.exception():
            outer.set_exception(translate(error))
        else:
            outer.set_result(inner.result())

    future.add_done_callback(forward)
    return outer


@dataclass
class _Attempt(Generic[Task]):
    """One execution of a task."""

    original: Task
    task: Task  # as executed in this attempt
    number: int = 1


def _schedule(
    function: Callable[[Task], Any], tasks: Sequence[Task], backend: Backend, workload: Workload[Task]
) -> Iterator[tuple[Task, Any]]:
    """Every task with its result or its last failure."""
    if not tasks:
        return
    pending = deque(_Attempt(task, task) for task in tasks)
    with (
        backend.pool(len(tasks), gpu=workload.gpu, processes=workload.processes) as pool,
        progress_bar() as bar,
    ):
        row = bar.add_task(workload.label, total=sum(workload.weight(task) for task in tasks))
        scheduler = _Scheduler[Task](pool)
        completed = 0.0
        while pending or scheduler.running():
            while pending and scheduler.idle:
                scheduler.submit(function, pending.popleft())
            for attempted, outcome in scheduler.collect():
                if isinstance(outcome, Failure) and outcome.retryable and attempted.number < _MAX_ATTEMPTS:
                    retry = workload.on_retry(attempted.task, outcome)
                    # After all other tasks: the cause may have disappeared by then.
                    pending.append(_Attempt(attempted.original, retry, attempted.number + 1))
                    continue
                yield attempted.original, outcome
                completed += workload.weight(attempted.original)
            running = (each.task for each in scheduler.running())
            underway = sum(workload.weight(task) * workload.fraction(task) for task in running)
            bar.update(row, completed=completed + underway)


class _Scheduler(Generic[Task]):
    """Assigns attempts to idle workers and replaces workers that died."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._busy: dict[Future[Any], tuple[int, Worker, _Attempt[Task] | None]] = {}
        self.idle: list[tuple[int, Worker]] = []
        self._failed_starts = 0  # consecutive workers that died before their handshake
        for slot in range(pool.slots):
            self._spawn(slot)

    def running(self) -> list[_Attempt[Task]]:
        return [attempted for _, _, attempted in self._busy.values() if attempted is not None]

    def submit(self, function: Callable[[Task], Any], attempted: _Attempt[Task]) -> None:
        slot, worker = self.idle.pop()
        self._busy[worker.submit(function, attempted.task)] = slot, worker, attempted

    def collect(self) -> list[tuple[_Attempt[Task], Any]]:
        """Attempts that finished or were lost since the last call, after a wait of at most `POLL_SECONDS`.

        Raises:
            UserError: workers die before their handshake.
            Exception: whatever a task raised.
        """
        done, _ = wait(self._busy, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        results = []
        for future in done:
            slot, worker, attempted = self._busy.pop(future)
            outcome = self._outcome(future, started=attempted is not None)
            if isinstance(outcome, Failure) and outcome.cause in ("lost worker", "lost device"):
                worker.terminate()
                self._spawn(slot)
            else:
                self.idle.append((slot, worker))
            if attempted is not None:
                results.append((attempted, outcome))
        return results

    def _spawn(self, slot: int) -> None:
        """Start a worker. It becomes idle after the handshake, because on a cluster it may wait long for a machine."""
        worker = self._pool.spawn(slot)
        self._busy[worker.submit(adopt_code_identity, code_identity())] = slot, worker, None

    def _outcome(self, future: Future[Any], *, started: bool) -> Any:
        try:
            outcome = future.result()
        except LostWorker as lost:
            self._failed_starts += not started
            if self._failed_starts == _MAX_ATTEMPTS:
                raise UserError(f"worker processes end before they start work ({lost}).") from lost
            return Failure("lost worker", str(lost))
        self._failed_starts = 0
        return outcome
