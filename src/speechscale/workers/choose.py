"""The choice of a backend by name."""

from __future__ import annotations

from speechscale.errors import UserError
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import Backend


def choose_backend(name: str, workers: int | None = None, address: str | None = None) -> Backend:
    """The backend of a name.

    Args:
        name: `local` or `ray`.
        workers: number of worker processes; by default one per core, or one per GPU where the tasks use GPUs.
        address: of a Ray cluster.

    Raises:
        UserError: an unknown name, an address without Ray, or Ray is not installed.
    """
    if name == "local":
        if address is not None:
            raise UserError("--ray-address needs --engine ray; leave it out, or choose that engine.")
        return LocalBackend(workers)
    if name == "ray":
        from speechscale.workers.ray import RayBackend

        return RayBackend(workers, address)
    raise UserError(f"--engine is {name!r}; it must be local or ray.")
