"""Tasks for the tests of the engines: importable by worker processes, and each telling what it did in its folder."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.errors import CannotWrite, SampleFault, UserError
from speechscale.records.manifest import Utterance, write_manifest


@dataclass(frozen=True)
class Trick:
    """`failures` times it fails as `how` says; then its result is its number and the size it was tried with."""

    number: int
    folder: Path
    how: str = ""
    failures: int = 0
    size: float = 8.0


def tries(folder: Path, name: str | int) -> int:
    """How often it was tried: one byte a try."""
    path = folder / f"tries-{name}"
    return path.stat().st_size if path.exists() else 0


def note_try(folder: Path, name: str | int) -> int:
    with (folder / f"tries-{name}").open("ab") as stream:
        stream.write(b".")
    return tries(folder, name)


def perform(trick: Trick) -> tuple[int, float]:
    if note_try(trick.folder, trick.number) <= trick.failures:
        fail(trick.how)
    return trick.number, trick.size


def perform_slowly(trick: Trick) -> tuple[int, float]:
    note_try(trick.folder, trick.number)
    time.sleep(1.0)
    return trick.number, trick.size


def fail(how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        raise MemoryError("no room")
    if how == "torch memory":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB")
    if how == "cpu memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
    if how == "i/o":
        raise OSError(errno.EIO, "Input/output error", "somewhere")
    if how == "device":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if how == "hiccup":
        raise CannotWrite("out: cannot be written (Stale file handle).") from OSError(errno.ESTALE, "stale")
    if how == "disk full":
        raise CannotWrite("out: cannot be written (No space left).") from OSError(errno.ENOSPC, "full")
    if how == "bad input":
        raise UserError("the manifest is broken.")
    raise ZeroDivisionError("a mistake")


def process_of(_: Trick) -> tuple[int, str | None, str]:
    time.sleep(0.05)  # long enough that no worker does it all
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


def hear_noise(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    """A second of noise that depends on the id alone.

    An id `bad…` is a fault; `kill…` ends the process the first time, `oom…` the memory, `mistake…` is one always.
    """
    for utterance in utterances:
        name = utterance.id
        if name.startswith("bad"):
            yield SampleFault("corrupt", f"{name} is bad")
            continue
        if name.startswith("kill") and note_try(root, name) == 1:
            fail("killed")
        if name.startswith("oom") and note_try(root, name) <= 3:
            fail("memory")
        if name.startswith("mistake"):
            fail("mistake")
        rng = np.random.default_rng(list(name.encode()))
        yield rng.standard_normal(16_000 + int(rng.integers(0, 999))).astype(np.float32)


def list_utterances(path: Path, *names: str) -> Path:
    """Every utterance is recorded with a duration of one second."""
    write_manifest(
        (Utterance(id=n, dataset="d", split="train", speaker="v", duration=1.0) for n in names), path
    )
    return path


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
