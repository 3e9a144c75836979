"""Classification of the errors of a task: why it failed, and whether a retry may succeed."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from speechscale.errors import CannotWrite, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why a task failed."""

    cause: Literal["out of memory", "input/output", "lost worker", "lost device", "error"]
    detail: str

    @property
    def retryable(self) -> bool:
        """Whether a retry may succeed."""
        return self.cause != "error"

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


def attempt(function: Callable[[Task], Result], task: Task) -> Result | Failure:
    """The result of a task, or its failure as plain data that can be sent between processes and machines.

    Raises:
        UserError: an error that would affect the other tasks as well.
    """
    try:
        return function(task)
    except UserError as error:
        if isinstance(error, CannotWrite) and _is_transient(error.__cause__):
            return Failure("input/output", str(error))
        raise
    except Exception as error:
        return _classify(error)


_TRANSIENT_ERRORS = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EINTR,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
}


def _is_transient(error: BaseException | None) -> bool:
    """Whether a later write may succeed: true of a network file system that times out, not of a full disk."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRORS


def _classify(error: Exception) -> Failure:
    detail = str(error) or type(error).__name__
    if _is_out_of_memory(error):
        return Failure("out of memory", detail.splitlines()[0])
    if isinstance(error, OSError):
        return Failure("input/output", detail)
    if isinstance(error, RuntimeError) and "CUDA error" in detail:
        # After a CUDA error every later call of the same process fails too, so the worker has to be replaced.
        return Failure("lost device", detail.splitlines()[0])
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return Failure("error", f"{type(error).__name__}: {detail} ({where})")


def _is_out_of_memory(error: Exception) -> bool:
    """Recognise the error of torch by its name, so that torch is not imported here; its CPU allocator has none."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )
