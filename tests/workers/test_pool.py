"""The scheduler with local workers: retries, failures and lost workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tricks import Trick, perform, process_of, tries

from speechscale.compute import available_cores
from speechscale.errors import CannotWrite, UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.workers.choose import choose_backend
from speechscale.workers.failures import Failure
from speechscale.workers.local import LocalBackend, _LocalPool
from speechscale.workers.pool import Workload, run_tasks, slots_for, try_tasks


def tried(*tricks: Trick, workers: int = 2) -> dict[int, tuple[int, float] | Failure]:
    outcomes = try_tasks(
        perform,
        tricks,
        LocalBackend(workers),
        Workload("tricks", on_retry=lambda trick, failure: replace(trick, size=trick.size / 2)),
    )
    return {trick.number: outcome for trick, outcome in outcomes}


def test_retryable_failures_are_retried_with_smaller_tasks_then_reported(tmp_path: Path) -> None:
    """2 of 3 tries fail: a result with a quarter of the size. 3 of 3: a failure; the others are done all the same."""
    causes = {
        "killed": "lost worker",
        "memory": "out of memory",
        "torch memory": "out of memory",
        "cpu memory": "out of memory",
        "i/o": "input/output",
        "hiccup": "input/output",
        "device": "lost device",
    }
    retryable = [Trick(n, tmp_path, how, 2) for n, how in enumerate(causes)]
    lasting = [Trick(100 + n, tmp_path, how, 3) for n, how in enumerate(causes)]
    outcomes = tried(*retryable, *lasting, Trick(999, tmp_path))
    assert [outcomes[trick.number] for trick in retryable] == [(trick.number, 2.0) for trick in retryable]
    assert outcomes[999] == (999, 8.0)
    for trick in lasting:
        failure = outcomes[trick.number]
        assert isinstance(failure, Failure) and failure.retryable and "\n" not in str(failure)
        assert failure.cause == causes[trick.how]
    assert [tries(tmp_path, trick.number) for trick in retryable + lasting] == [3] * len(retryable + lasting)


def identity_of_worker(_: int) -> CodeIdentity:
    return code_identity()


def test_workers_use_the_code_identity_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = code_identity().model_copy(update={"commit": "f" * 40, "clean": True})
    monkeypatch.setattr("speechscale.records.code._adopted", parent)
    outcomes = run_tasks(identity_of_worker, [0, 1], backend=LocalBackend(2), label="identities")
    assert [identity for _, identity in outcomes] == [parent, parent]


def test_worker_with_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = code_identity().model_copy(update={"source": "0" * 64})
    monkeypatch.setattr("speechscale.records.code._adopted", other)
    with pytest.raises(
        UserError, match=r"a worker runs other code .* than this command .*source 000000000000"
    ):
        list(run_tasks(identity_of_worker, [0], backend=LocalBackend(1), label="identities"))


def test_programming_error_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    outcomes = tried(Trick(0, tmp_path, "mistake", 9), Trick(1, tmp_path))
    assert outcomes[1] == (1, 8.0)
    assert str(outcomes[0]).startswith("error: ZeroDivisionError: a mistake (tricks.py:")
    assert tries(tmp_path, 0) == 1


@pytest.mark.parametrize(("how", "error"), [("disk full", CannotWrite), ("bad input", UserError)])
def test_error_that_affects_every_task_stops_at_once(
    how: str, error: type[UserError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        tried(*(Trick(n, tmp_path, how, 9) for n in range(20)), workers=1)
    assert sum(tries(tmp_path, n) for n in range(20)) <= 2


def test_lost_worker_affects_only_its_own_task(tmp_path: Path) -> None:
    """One place after another loses its process; nobody else is tried twice."""
    outcomes = tried(*(Trick(n, tmp_path, "killed", n % 3 == 0) for n in range(9)))
    assert sorted(outcomes) == list(range(9))
    assert [tries(tmp_path, n) for n in range(9)] == [2, 1, 1, 2, 1, 1, 2, 1, 1]


def test_run_tasks_raises_task_errors_and_gives_up_on_a_task_that_kills_its_workers(tmp_path: Path) -> None:
    def run(trick: Trick) -> list[object]:
        return list(run_tasks(perform, [trick], backend=LocalBackend(1), label="ladder"))

    assert run(Trick(0, tmp_path, "killed", 2))[0][1] == (0, 8.0)  # type: ignore[index]
    with pytest.raises(UserError, match="ladder: 3 worker processes in a row were killed from outside"):
        run(Trick(1, tmp_path, "killed", 9))
    with pytest.raises(MemoryError):
        run(Trick(2, tmp_path, "memory", 9))
    assert list(run_tasks(perform, [], backend=LocalBackend(1), label="none")) == []


def test_workers_have_one_thread_and_are_no_more_than_asked_for() -> None:
    tricks = [Trick(n, Path()) for n in range(8)]
    done = list(run_tasks(process_of, tricks, backend=LocalBackend(2), label="who"))
    assert {result[2] for _, result in done} == {"1"}
    assert len({result[0] for _, result in done}) <= 2
    assert os.getpid() not in {result[0] for _, result in done}


def test_each_slot_has_its_gpu() -> None:
    """Four places on the GPUs 2 and 5: two processes each; the name is set before anything can load CUDA."""
    pool = _LocalPool(4, ["2", "5"], processes=1)
    workers = [pool.spawn(place) for place in range(4)]
    try:
        futures = [worker.submit(process_of, Trick(0, Path())) for worker in workers]
        assert [future.result()[1] for future in futures] == ["2", "5", "2", "5"]
    finally:
        pool.terminate()


def test_slot_has_a_gpu_for_each_process_of_its_task() -> None:
    pool = _LocalPool(2, ["2", "5", "6", "7"], processes=2)
    workers = [pool.spawn(place) for place in range(2)]
    try:
        futures = [worker.submit(process_of, Trick(0, Path())) for worker in workers]
        assert [future.result()[1] for future in futures] == ["2,5", "6,7"]
    finally:
        pool.terminate()
    assert [slots_for(2, gpus, cores) for gpus, cores in ((8, 1), (5, 99), (0, 16), (0, 1))] == [4, 2, 8, 1]
    with pytest.raises(
        UserError, match="processes = 4 needs one GPU for each process, but a machine has only 3"
    ):
        slots_for(4, 3, 64)


def test_worker_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    tricks = [Trick(n, tmp_path) for n in range(3)]
    outcomes = try_tasks(process_of, tricks, LocalBackend(1), Workload("who"))
    _, first = next(outcomes)
    assert not isinstance(first, Failure)
    os.kill(first[0], signal.SIGKILL)
    time.sleep(0.2)
    rest = [result for _, result in outcomes]
    assert len(rest) == 2 and all(not isinstance(r, Failure) and r[0] != first[0] for r in rest)


def test_workers_that_cannot_start_give_a_clear_error(tmp_path: Path) -> None:
    """A script without a main guard starts itself again in every worker, which spawning refuses."""
    script = tmp_path / "script.py"
    script.write_text(
        "from speechscale.workers.local import LocalBackend\nfrom speechscale.workers.pool import run_tasks\n"
        "print(list(run_tasks(abs, [1], backend=LocalBackend(1), label='x')))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert "worker processes end before they start work" in done.stderr.splitlines()[-1]


def test_backends_are_chosen_by_name() -> None:
    assert isinstance(choose_backend("local", 3), LocalBackend)
    assert available_cores() >= 1
    with pytest.raises(UserError, match="it must be local or ray"):
        choose_backend("slurm")
    with pytest.raises(UserError, match="--ray-address needs --engine ray"):
        choose_backend("local", None, "auto")


def test_missing_ray_gives_a_clear_error() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from speechscale.workers.choose import choose_backend\n"
        "try: choose_backend('ray')\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "--engine ray needs Ray: pip install 'speechscale[ray]'."
