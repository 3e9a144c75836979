"""Where a model runs on this machine, in which precision, and how fast that could be at best."""

from __future__ import annotations

import os
import time
from functools import cache

import torch

from speechscale.errors import UserError
from speechscale.model.shape import Device, Precision
from speechscale.records.gpus import GPUS, gpu_of

_SQUARE = 1024  # of the measured product: large enough for the best rate, small enough to take milliseconds
_MEASURED = 0.1  # seconds


def compute_device(wanted: Device = "auto") -> torch.device:
    """The GPU where there is one; this process's own where `torchrun` started several.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", "0"))
    found = torch.cuda.device_count()
    if place >= found:
        raise UserError(
            f"device = 'cuda': {found or 'no'} GPU{'s' * (found > 1)} here for process {place} of this machine"
            f"{f', and PyTorch {torch.__version__} was built without CUDA' * (torch.version.cuda is None)}; "
            "set device = 'cpu', or start one process a GPU."
        )
    return torch.device("cuda", place)


def precision_of(wanted: Precision, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of matrix products at best: of known GPUs from the table, of any other device measured once."""
    name = gpu_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return _measured_flops(device, dtype) if name is None else GPUS[name]


def _measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.ones(_SQUARE, _SQUARE, device=device, dtype=dtype) for _ in range(2))
    took: list[float] = []
    while len(took) < 2 or sum(took) < _MEASURED:  # the first one warms up
        started = time.perf_counter()
        (left @ right)[0, 0].item()  # which waits for the product
        took.append(time.perf_counter() - started)
    return 2.0 * _SQUARE**3 / min(took)
