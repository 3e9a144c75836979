"""The scheduler with Ray workers: the same bytes as local workers, also when workers are killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tricks import Trick, folder_bytes, perform, perform_slowly, process_of, tries

from speechscale.errors import CannotWrite, UserError
from speechscale.jobs.encode import encode_shards
from speechscale.units.encode import ShardTask
from speechscale.workers.choose import choose_backend
from speechscale.workers.failures import Failure
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import Backend, Workload, run_tasks, try_tasks

ray = pytest.importorskip("ray")
Plan = Callable[..., list[ShardTask]]


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """A Ray of this machine, whose workers find the tasks of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
        yield choose_backend("ray", 2)
    ray.shutdown()


def test_ray_and_local_workers_write_the_same_shards_when_workers_are_killed(
    backend: Backend, plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("a", "kill1", "b", "c", "bad", "d", "e")
    handler = signal.getsignal(signal.SIGTERM)
    encode_shards(plan("ray", *names), backend)
    assert tries(tmp_path, "kill1") == 2  # the worker that was killed mid-shard, and the next
    encode_shards(plan("local", *names), LocalBackend(2))
    assert folder_bytes(tmp_path / "ray") == folder_bytes(tmp_path / "local")
    assert capfd.readouterr() == ("", "")  # quiet when piped, Ray's own noise included
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.slow
def test_failures_on_ray_match_local_failures(backend: Backend, tmp_path: Path) -> None:
    tricks = [
        Trick(0, tmp_path, "memory", 2),
        Trick(1, tmp_path, "killed", 3),
        Trick(2, tmp_path, "mistake", 1),
        Trick(3, tmp_path),
    ]
    outcomes = {
        trick.number: outcome
        for trick, outcome in try_tasks(
            perform,
            tricks,
            backend,
            Workload("tricks", on_retry=lambda trick, _: replace(trick, size=trick.size / 2)),
        )
    }
    assert (outcomes[0], outcomes[3]) == ((0, 2.0), (3, 8.0))
    lost, mistake = outcomes[1], outcomes[2]
    assert isinstance(lost, Failure) and lost.cause == "lost worker" and "\n" not in str(lost)
    assert str(mistake).startswith("error: ZeroDivisionError: a mistake (tricks.py:")
    with pytest.raises(CannotWrite, match="No space left"):
        list(try_tasks(perform, [Trick(4, tmp_path, "disk full", 9)], backend, Workload("full")))


def nowhere(_: Trick) -> None:
    """A task of a module that only this process has."""


def test_different_installation_gives_a_clear_error(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nowhere, "__module__", "missing_there")
    monkeypatch.setitem(sys.modules, "missing_there", sys.modules[__name__])
    with pytest.raises(
        UserError, match=r"No module named 'missing_there'.*every machine needs the same installation"
    ):
        list(run_tasks(nowhere, [Trick(0, Path())], backend=backend, label="x"))


@pytest.mark.slow
def test_workers_are_actors_of_one_thread(backend: Backend) -> None:
    tricks = [Trick(n, Path()) for n in range(6)]
    done = [result for _, result in run_tasks(process_of, tricks, backend=backend, label="who")]
    assert len({process for process, _, _ in done}) <= 2 and {threads for _, _, threads in done} == {"1"}


@pytest.mark.slow
def test_tasks_of_a_lost_machine_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two raylets of one CPU each; one is killed while both workers are busy. The other does the rest."""
    from ray.cluster_utils import Cluster

    ray.shutdown()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    other = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    try:
        tricks = [Trick(n, tmp_path) for n in range(8)]
        done = run_tasks(
            perform_slowly, tricks, backend=choose_backend("ray", address=cluster.address), label="lost"
        )
        results = [next(done)[1]]
        cluster.remove_node(other, allow_graceful=False)
        results += [result for _, result in done]
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert sorted(results) == [(n, 8.0) for n in range(8)]
    assert sum(tries(tmp_path, n) for n in range(8)) > 8
