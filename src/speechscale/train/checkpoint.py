"""Model and optimiser on disk, as safetensors: atomic, and never a pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from speechscale.errors import UserError
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.runs import RunRecord
from speechscale.records.seal import differing_fields, write_file

MODEL, TRAINING = "model.safetensors", "training.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done, and the test losses read on the way as (step, loss)."""

    step: int
    curve: list[tuple[int, float]]


def save_model(model: Transformer, path: Path, made_from: dict[str, Any], record: RunRecord) -> None:
    """Weights, with the shape, what they were made from and the run's record in the header."""
    header = {
        "shape": model.shape.model_dump(),
        "made_from": made_from,
        "record": record.model_dump(mode="json"),
    }
    _save(dict(model.state_dict()), path, header)


def load_model(path: Path) -> tuple[Transformer, dict[str, Any]]:
    """A model in evaluation mode, and what it was made from.

    Raises:
        UserError: missing, truncated, no checkpoint of ours, or weights of another shape.
    """
    tensors, header = _load(path)
    model = Transformer(ModelShape.model_validate(header["shape"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the shape in the header ({error}).") from error
    return model.eval(), header["made_from"]


def finished_run(path: Path, made_from: dict[str, Any]) -> RunRecord | None:
    """The record of the model at `path`; None when no model stands there.

    Raises:
        UserError: the model is of another run; the differing fields are named.
    """
    if not path.exists():
        return None
    _, header = _load(path)
    _refuse_another(path, header["made_from"], made_from)
    return RunRecord.model_validate(header["record"])


def save_training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    path: Path,
    made_from: dict[str, Any],
) -> None:
    """All that the next step depends on."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    _save(tensors, path, {"made_from": made_from, "step": progress.step, "curve": progress.curve})


def load_training(
    model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, made_from: dict[str, Any]
) -> Progress:
    """Put model and optimiser back where they were; a fresh start when there is no such file.

    Raises:
        UserError: the checkpoint is of a run with another spec, data or code version; the fields are named.
    """
    if not path.exists():
        return Progress(0, [])
    tensors, header = _load(path)
    _refuse_another(path, header["made_from"], made_from)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(header["step"], [(step, loss) for step, loss in header["curve"]])


def _refuse_another(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = differing_fields(found, json.loads(json.dumps(wanted)))
    if differing:
        raise UserError(
            f"{path}: belongs to another run; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to start again."
        )


def _save(tensors: dict[str, Tensor], path: Path, header: dict[str, Any]) -> None:
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_file(path, save(contiguous, metadata={"speechscale": json.dumps(header)}))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["speechscale"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a checkpoint of speechscale, or damaged ({error}).") from error
