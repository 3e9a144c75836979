"""Reading of model folders: `config.json` and safetensors. Pickles are refused, because they can run code."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speechscale.errors import UserError
from speechscale.records.json_objects import read_json_object

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PICKLE_ERROR = (
    "a pickle, which can run code when it is opened; only safetensors are read, so convert it where you "
    "trust it"
)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by name, in one file or in several with an index.

    Raises:
        UserError: missing or damaged files, a pickle, or an index that names files outside the folder.
    """
    if not (folder / INDEX).exists():
        return _read_file(folder, WEIGHTS)
    weight_map = read_json_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UserError(f"{folder / INDEX}: no weight_map.")
    weights: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise UserError(f"{folder / INDEX}: names {name!r}, which may be outside the folder.")
        weights |= _read_file(folder, name)
    return weights


def require_folder(folder: Path) -> None:
    """Refuse a single file where a model folder is expected.

    Raises:
        UserError: `folder` is a file.
    """
    if folder.is_file():
        kind = _PICKLE_ERROR if _is_pickle(folder) else "one file"
        raise UserError(f"{folder}: {kind}; a folder with {CONFIG} is wanted.")


def _read_file(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / name
    if not path.exists():
        pickles = sorted(file for file in folder.iterdir() if file.suffix in _PICKLE_SUFFIXES)
        raise UserError(f"{pickles[0]}: {_PICKLE_ERROR}." if pickles else f"{folder}: no {name} here.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        problem = _PICKLE_ERROR if _is_pickle(path) else f"damaged, or no safetensors ({error})"
        raise UserError(f"{path}: {problem}.") from error


def _is_pickle(path: Path) -> bool:
    """By the suffix, or by the first bytes: torch writes a zip file, and safetensors have a JSON object at byte 8."""
    with path.open("rb") as stream:
        first = stream.read(9)
    is_zip, is_protocol = first[:4] == b"PK\x03\x04", first[:1] == b"\x80" and first[8:] != b"{"
    return path.suffix in _PICKLE_SUFFIXES or is_zip or is_protocol
