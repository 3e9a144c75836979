"""The choice of device, precision and threads, for models, encoders and k-means alike. Imports torch lazily."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from speechscale.errors import UserError
from speechscale.records.gpus import GPUS, gpu_of

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]  # auto: the GPU where there is one
Precision = Literal["auto", "float32", "bfloat16"]  # auto: bfloat16 where the hardware multiplies it faster
SINGLE_THREAD_ENV = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
_MATRIX_SIZE = (
    1024  # of the measured product: large enough for the best rate, small enough to take milliseconds
)
_MEASURING_SECONDS = 0.1


@dataclass(frozen=True)
class ComputeOptions:
    """How an encoder or k-means computes, as opposed to what it computes.

    Attributes:
        device: `auto` is the GPU where there is one.
        precision: `bfloat16` changes a few units; it is recorded in the shards.
        batch_seconds: seconds of audio, padding included, in one forward pass of a neural encoder.
    """

    device: Device = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_seconds: float = 60.0


DEFAULT_OPTIONS = ComputeOptions()


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs of this machine, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


def choose_device(requested: Device = "auto") -> torch.device:
    """The GPU where there is one; under torchrun, the GPU of this process.

    Raises:
        UserError: a GPU was requested and there is none.
    """
    import torch

    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise UserError(
            f"device = 'cuda': this machine has {found or 'no'} GPU{'s' * (found > 1)} for local rank {local_rank}"
            f"{f', and PyTorch {torch.__version__} was built without CUDA' * (torch.version.cuda is None)}; "
            "set device = 'cpu', or start one process per GPU."
        )
    return torch.device("cuda", local_rank)


def choose_dtype(requested: Precision, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32; or the requested one."""
    import torch

    if requested != "auto":
        return torch.bfloat16 if requested == "bfloat16" else torch.float32
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Peak FLOPs per second of matrix products: from the table for known GPUs, measured once for any other device."""
    import torch

    name = gpu_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return _measured_flops(device, dtype) if name is None else GPUS[name]


def _measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    import torch

    left, right = (torch.ones(_MATRIX_SIZE, _MATRIX_SIZE, device=device, dtype=dtype) for _ in range(2))
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < _MEASURING_SECONDS:  # the first product warms up
        started = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the product
        seconds.append(time.perf_counter() - started)
    return 2.0 * _MATRIX_SIZE**3 / min(seconds)
