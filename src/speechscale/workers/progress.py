"""Progress on the terminal, with remaining time, and the duration of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """A progress bar with remaining time on a terminal; silent when stderr is piped."""
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
def spinner(label: str) -> Iterator[None]:
    """A moving bar for work of unknown length."""
    with progress_bar() as bar:
        bar.add_task(label, total=None)
        yield


class StageTimer:
    """Seconds spent in each stage, in order; repeated entries of a stage add up."""

    def __init__(self, previous: dict[str, float]) -> None:
        self.seconds = dict(previous)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of the `with` block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
