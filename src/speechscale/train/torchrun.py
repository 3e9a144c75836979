"""Multi-process runs: starts `speechscale train` under torchrun, and ends it together with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from speechscale.records.runs import RECORD, RunRecord, read_record
from speechscale.records.seal import write_file
from speechscale.train.metrics import logged_steps
from speechscale.train.spec import OnStep, RunSpec, to_toml

_POLL_SECONDS = 0.5
_SHUTDOWN_SECONDS = 60.0  # for the processes to save a checkpoint after SIGTERM


def train_with_torchrun(
    spec: RunSpec, shards: Sequence[Path], test: Path, folder: Path, on_step: OnStep
) -> RunRecord:
    """`train_mixture` in `spec.processes` processes; leaves `run.toml` and `output.txt` in the run's folder too.

    Args:
        spec: the run.
        shards: folders of training shards; none where the spec names corpora.
        test: folder of test shards.
        folder: of the run.
        on_step: called now and then.

    Raises:
        TrunkCheckpointMissing: the run is a branch, and its trunk has no checkpoint where it starts.
        RuntimeError: the processes failed; with their error message.
    """
    _require_start(spec, folder)
    write_file(folder / "run.toml", to_toml(spec))
    command = [sys.executable, "-m", "speechscale.train.torchrun", str(os.getpid())]
    command += ["--standalone", "--nproc-per-node", str(spec.processes), "-m", "speechscale.cli"]
    command += ["train", str(folder / "run.toml"), "--test", str(test), "-o", str(folder)]
    for each in shards:
        command += ["--shards", str(each)]
    output = folder / "output.txt"
    with output.open("w", encoding="utf-8") as stream, _exit_on_sigterm():
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                on_step(logged_steps(folder), spec.steps)
        finally:
            _terminate(process)
    record = folder / RECORD
    if not record.exists():
        raise RuntimeError(
            _error_message(output) or f"{output}: the processes ended with {process.returncode}"
        )
    return read_record(record)


def _require_start(spec: RunSpec, folder: Path) -> None:
    """Require a checkpoint of the trunk for a branch that has none of its own yet."""
    from speechscale.train.checkpoint import MODEL, list_checkpoints, require_trunk_checkpoint

    if spec.trunk and not (list_checkpoints(folder) or (folder / MODEL).exists()):
        require_trunk_checkpoint(folder.parent / spec.trunk, spec.decay_start)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # torchrun forwards the signal, and the training saves a checkpoint
    try:
        process.wait(_SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Inside the block SIGTERM raises SystemExit, so that `finally` clauses run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _error_message(output: Path) -> str:
    """The first error message in the output of the processes; "" where there is none."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    from_command = [line for line in lines if line.startswith("speechscale: ")]
    from_python = [line for line in lines if "Error: " in line and not line.startswith((" ", "\t"))]
    return (from_command or from_python or [""])[0].removeprefix("speechscale: ")


def _torchrun(parent: int, arguments: list[str]) -> None:
    """Run torchrun in this process; end it when the process `parent` is gone."""
    from torch.distributed.run import main

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    main(arguments)


if __name__ == "__main__":
    _torchrun(int(sys.argv[1]), sys.argv[2:])
