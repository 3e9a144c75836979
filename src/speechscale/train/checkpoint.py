"""Model and optimiser on disk, as safetensors: atomic, and never a pickle."""

from __future__ import annotations

import json
from collections.abc import Collection
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
from speechscale.records.code import code_identity
from speechscale.records.runs import RunRecord
from speechscale.records.seal import differing_fields, write_file
from speechscale.train.processes import ALONE, World, share_like, whole

MODEL = "model.safetensors"
_TRAINING = "training-"  # and the number of steps done


class NoTrunk(UserError):
    """A trunk left no checkpoint where a branch leaves it."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done, and the test losses read on the way as (step, loss)."""

    step: int
    curve: list[tuple[int, float]]


def save_model(
    model: Transformer, path: Path, provenance: dict[str, Any], record: RunRecord, world: World = ALONE
) -> None:
    """Weights, with shape, what they were made from and the run's record in the header; the first process writes."""
    tensors = {name: _gathered(value, world) for name, value in model.state_dict().items()}
    header = {
        "shape": model.shape.model_dump(),
        "code": code_identity().model_dump(),
        "provenance": provenance,
        "record": record.model_dump(mode="json"),
    }
    if world.writes:
        _save(tensors, path, header)


def load_model(path: Path) -> tuple[Transformer, dict[str, Any]]:
    """A model in evaluation mode, and what it was made from.

    Raises:
        UserError: missing, truncated, no checkpoint of ours, or weights of another shape.
    """
    tensors, header = _load(path)
    _demand_model(path, header)
    model = Transformer(ModelShape.model_validate(header["shape"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the shape in the header ({error}).") from error
    return model.eval(), header["provenance"]


def finished_run(path: Path, provenance: dict[str, Any]) -> RunRecord | None:
    """The record of the model at `path`; None when no model stands there.

    Raises:
        UserError: the model is of another run; the differing fields are named.
    """
    if not path.exists():
        return None
    _, header = _load(path)
    _demand_model(path, header)
    _refuse_another(path, header["provenance"], provenance)
    return RunRecord.model_validate(header["record"])


def _demand_model(path: Path, header: dict[str, Any]) -> None:
    if not {"shape", "provenance", "record"} <= header.keys():
        raise UserError(
            f"{path}: is no model but a checkpoint of its training; a run writes {MODEL} when it is done."
        )


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps lies, or would."""
    return folder / f"{_TRAINING}{step:09d}.safetensors"


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a training by the number of steps done, oldest first."""
    found = sorted(folder.glob(f"{_TRAINING}{'[0-9]' * 9}.safetensors"))
    return {int(path.stem.removeprefix(_TRAINING)): path for path in found}


def prune(folder: Path, last: int, keep: Collection[int]) -> None:
    """Remove all checkpoints but the `last` newest and those after the steps to `keep`."""
    found = checkpoints(folder)
    for step in list(found)[: len(found) - last]:
        if step not in keep:
            found[step].unlink()


def save_training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    folder: Path,
    provenance: dict[str, Any],
    world: World = ALONE,
) -> None:
    """All that the next step depends on, whole, however many processes share it; the first of them writes."""
    tensors = {f"model.{name}": _gathered(value, world) for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{number}.{name}"] = _gathered(torch.as_tensor(value), world)
    if world.writes:
        header = {
            "code": code_identity().model_dump(),
            "provenance": provenance,
            "step": progress.step,
            "curve": progress.curve,
        }
        _save(tensors, checkpoint_at(folder, progress.step), header)


def _gathered(value: Tensor, world: World) -> Tensor:
    """All of a tensor, on the process that writes; nothing on the others, which only lend their shares."""
    value = whole(value.detach())
    return value.cpu() if world.writes else value.new_empty(0)


def load_training(
    model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, provenance: dict[str, Any]
) -> Progress:
    """Put model and optimiser where a checkpoint left them, each process its share.

    Raises:
        UserError: no checkpoint, truncated, of another shape, or of a run with another spec, data or revision of the
            training; the fields are named.
    """
    tensors, header = _load(path)
    _refuse_another(path, header.get("provenance"), provenance)
    _put(model, optimizer, tensors, path)
    return Progress(header["step"], [(step, loss) for step, loss in header["curve"]])


def trunk_checkpoint(folder: Path, step: int) -> Path:
    """Where a branch begins.

    Raises:
        NoTrunk: the trunk in `folder` was not there yet.
    """
    path = checkpoint_at(folder, step)
    if not path.exists():
        raise NoTrunk(
            f"{path}: the trunk left no checkpoint there; train it first, with {step} among the steps to `keep`."
        )
    return path


def load_trunk(
    model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, step: int, provenance: dict[str, Any]
) -> None:
    """Put model and optimiser where a trunk was after `step` steps.

    Raises:
        NoTrunk: the trunk in `folder` was not there yet.
        UserError: its steps are not those of the branch.
    """
    path = trunk_checkpoint(folder, step)
    tensors, header = _load(path)
    _refuse_another(path, _shared(header.get("provenance")), _shared(provenance))
    _put(model, optimizer, tensors, path)


def _shared(provenance: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the first steps of a trunk and its branches have in common; the whole spec is of each alone."""
    return provenance and {key: value for key, value in provenance.items() if key != "spec"}


def _put(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    here = model.state_dict()
    wanted = {name: tuple(value.shape) for name, value in here.items()}
    found = {
        name.removeprefix("model."): tuple(value.shape)
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    if found != wanted:
        raise UserError(
            f"{path}: the weights are of another shape: {'; '.join(differing_fields(found, wanted)[:3])}; remove it to "
            "start again."
        )
    with torch.no_grad():
        for name, value in here.items():
            value.copy_(share_like(tensors[f"model.{name}"], value))
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            like = parameters[int(number)]
            state.setdefault(int(number), {})[key] = share_like(value, like) if value.ndim else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _refuse_another(path: Path, found: dict[str, Any] | None, wanted: dict[str, Any] | None) -> None:
    differing = differing_fields(found or {}, json.loads(json.dumps(wanted)))
    if differing:
        raise UserError(
            f"{path}: belongs to another run; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to start again."
        )


def _save(tensors: dict[str, Tensor], path: Path, header: dict[str, Any]) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    write_file(path, save(contiguous, metadata={"speechscale": json.dumps(header)}))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["speechscale"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a checkpoint of speechscale, or damaged ({error}); remove it, and the same training goes on "
            "from an earlier one, or from its start."
        ) from error
