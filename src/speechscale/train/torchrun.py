"""A run of several processes: `speechscale train` under torchrun, which ends with the worker that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from speechscale.records.runs import RunRecord, read_record
from speechscale.records.seal import write_file
from speechscale.train.metrics import latest_metrics
from speechscale.train.spec import RunSpec, to_toml

_LOOK = 0.5  # seconds
_PATIENCE = 60.0  # seconds to save in, after the signal to stop


def train_together(
    spec: RunSpec, shards: Sequence[Path], test: Path, folder: Path, tick: Callable[[int, int], None]
) -> RunRecord:
    """`train_run` by `spec.processes` processes; beside its files lie `run.toml` and `output.txt`.

    Raises:
        RuntimeError: they failed; with the sentence that they ended in.
    """
    write_file(folder / "run.toml", to_toml(spec))
    command = [sys.executable, "-m", "speechscale.train.torchrun", str(os.getpid())]
    command += ["--standalone", "--nproc-per-node", str(spec.processes), "-m", "speechscale.cli"]
    command += ["train", str(folder / "run.toml"), "--test", str(test), "-o", str(folder)]
    for each in shards:
        command += ["--shards", str(each)]
    output = folder / "output.txt"
    with output.open("w", encoding="utf-8") as stream, _ended_with_us():
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                time.sleep(_LOOK)
                tick(int(latest_metrics(folder).get("step", -1)) + 1, spec.steps)
        finally:
            _end(process)
    record = folder / "record.json"
    if not record.exists():
        raise RuntimeError(_last_words(output) or f"{output}: the processes ended with {process.returncode}")
    return read_record(record)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # torchrun passes it on, and the training saves
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """SIGTERM unwinds this process while the block lasts, instead of ending it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_words(output: Path) -> str:
    """The sentence that the command ended in, of whichever process."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("speechscale: ")]
    errors = [line for line in lines if "Error: " in line and not line.startswith((" ", "\t"))]
    return (said or errors or [""])[0].removeprefix("speechscale: ")


def _torchrun(parent: int, arguments: list[str]) -> None:
    """torchrun in this process, told to end when `parent` is gone."""
    from torch.distributed.run import main

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    main(arguments)


if __name__ == "__main__":
    _torchrun(int(sys.argv[1]), sys.argv[2:])
