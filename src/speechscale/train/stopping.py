"""SIGTERM and ctrl-C during a training: finish the step, save, and then do what the signal asks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Whether a signal asked this process to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: no more patience
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Hear signals while the block lasts, where the caller does not ignore them; then do what they ask for."""
    heard = Stopping()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield heard
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, heard._hear)
    try:
        yield heard
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if heard.signal is not None:
            os.kill(os.getpid(), heard.signal)
