"""Peak FLOPs of GPUs by name."""

from __future__ import annotations

from speechscale.errors import UserError, nearest

# Dense bf16 (fp16 on V100 and T4) tensor FLOPs per second with fp32 accumulation, from NVIDIA's data sheets; of the
# SXM form where there are several.
GPUS = {
    "T4": 65e12,
    "V100": 125e12,
    "A10": 125e12,
    "RTX4090": 165e12,
    "A100": 312e12,
    "L40S": 362e12,
    "H100": 989e12,
    "H200": 989e12,
}


def gpu_flops(name: str) -> float:
    """Peak FLOPs per second of a named GPU.

    Raises:
        UserError: the GPU is not in the table.
    """
    known = {key.lower(): value for key, value in GPUS.items()}
    if name.lower() not in known:
        raise UserError(
            f"GPU {name!r} is not in the table{nearest(name, set(GPUS))}; it holds {', '.join(GPUS)}."
        )
    return known[name.lower()]


def gpu_of(device_name: str) -> str | None:
    """Name in the table of a driver's device name, such as `NVIDIA A100-SXM4-80GB`; None if the table lacks it."""
    words = device_name.upper().replace("-", " ").replace("RTX ", "RTX").split()
    return next((name for name in GPUS if name in words), None)
