"""Interruption of a command at a stated point of its progress."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LIMIT = 120.0  # seconds


def interrupt(
    command: Sequence[str | Path], when: Callable[[], bool], how: signal.Signals, *, group: bool = False
) -> str:
    """Start a command, send it a signal as soon as `when()` holds, and return its stderr.

    Args:
        command: program and arguments.
        when: the point of progress, checked every few milliseconds.
        how: the signal.
        group: send it to all processes of the command, as ctrl-C in a terminal does.

    Raises:
        AssertionError: the command ended before the point of progress or in spite of the signal, or its workers
            outlive it by more than a few seconds.
    """
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: process.poll() is not None or when())
    assert process.poll() is None, f"nothing was interrupted: {process.communicate()}"
    os.killpg(process.pid, how) if group else os.kill(process.pid, how)
    _, errors = process.communicate(timeout=_LIMIT)
    assert process.returncode != 0, "the command ended successfully in spite of the signal"
    wait_until(lambda: not _group_exists(process.pid))  # orphaned workers exit by themselves
    return errors


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll a condition, and fail if it does not hold in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < _LIMIT, "the condition did not hold in time"
        time.sleep(0.005)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
