"""What a person sees of work under way: a bar with remaining time, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
