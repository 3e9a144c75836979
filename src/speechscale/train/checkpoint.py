"""Model and optimiser state on disk: safetensors, written atomically."""

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
from speechscale.train.distributed import SINGLE_PROCESS, DistributedContext, full_tensor, shard_like

MODEL = "model.safetensors"
_CHECKPOINT = "training-"  # followed by the number of steps made


class TrunkCheckpointMissing(UserError):
    """A trunk has no checkpoint at the step where a branch starts."""


@dataclass(frozen=True)
class TrainingProgress:
    """Steps that a run has made, and the test losses on the way as (step, loss)."""

    step: int
    curve: list[tuple[int, float]]


def save_model(
    model: Transformer,
    path: Path,
    provenance: dict[str, Any],
    record: RunRecord,
    context: DistributedContext = SINGLE_PROCESS,
) -> None:
    """Write weights, and in the header shape, provenance and record.

    Args:
        model: may be sharded.
        path: of the safetensors file.
        provenance: spec and identities of the data that the model was trained with.
        record: of the run.
        context: all processes must call this; the main one writes.
    """
    tensors = {name: _on_main_process(value, context) for name, value in model.state_dict().items()}
    header = {
        "shape": model.shape.model_dump(),
        "code": code_identity().model_dump(),
        "provenance": provenance,
        "record": record.model_dump(mode="json"),
    }
    if context.is_main:
        _write(tensors, path, header)


def load_model(path: Path) -> tuple[Transformer, dict[str, Any]]:
    """A model in evaluation mode on the CPU, and its provenance.

    Raises:
        UserError: missing, truncated, not a model of speechscale, or weights of another shape.
    """
    tensors, header = _read(path)
    _require_model(path, header)
    model = Transformer(ModelShape.model_validate(header["shape"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the shape in the header ({error}).") from error
    return model.eval(), header["provenance"]


def read_record_if_finished(path: Path, provenance: dict[str, Any]) -> RunRecord | None:
    """The record in the header of the model at `path`; None where there is no model.

    Raises:
        UserError: the model is of another run; the differing fields are named.
    """
    if not path.exists():
        return None
    _, header = _read(path)
    _require_model(path, header)
    _require_same_run(path, header["provenance"], provenance)
    return RunRecord.model_validate(header["record"])


def _require_model(path: Path, header: dict[str, Any]) -> None:
    if not {"shape", "provenance", "record"} <= header.keys():
        raise UserError(
            f"{path}: is no model but a checkpoint of its training; a run writes {MODEL} when it is done."
        )


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of the checkpoint after `step` steps."""
    return folder / f"{_CHECKPOINT}{step:09d}.safetensors"


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by the number of steps made, oldest first."""
    found = sorted(folder.glob(f"{_CHECKPOINT}{'[0-9]' * 9}.safetensors"))
    return {int(path.stem.removeprefix(_CHECKPOINT)): path for path in found}


def prune_checkpoints(folder: Path, last: int, keep: Collection[int]) -> None:
    """Remove all checkpoints but the `last` newest and those after the steps to `keep`."""
    found = list_checkpoints(folder)
    for step in list(found)[: len(found) - last]:
        if step not in keep:
            found[step].unlink()


def save_checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: TrainingProgress,
    folder: Path,
    provenance: dict[str, Any],
    context: DistributedContext = SINGLE_PROCESS,
) -> None:
    """Write everything that the next step depends on.

    Args:
        model: may be sharded; the file holds full tensors, for any number of processes to load.
        optimizer: its state is written by parameter number.
        progress: steps made and test losses.
        folder: of the run.
        provenance: spec and identities of the data.
        context: all processes must call this; the main one writes.
    """
    tensors = {
        f"model.{name}": _on_main_process(value, context) for name, value in model.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{number}.{name}"] = _on_main_process(torch.as_tensor(value), context)
    if context.is_main:
        header = {
            "code": code_identity().model_dump(),
            "provenance": provenance,
            "step": progress.step,
            "curve": progress.curve,
        }
        _write(tensors, checkpoint_path(folder, progress.step), header)


def _on_main_process(value: Tensor, context: DistributedContext) -> Tensor:
    """The full tensor on the CPU of the main process; an empty one on the others, which only send their shards."""
    value = full_tensor(value.detach())
    return value.cpu() if context.is_main else value.new_empty(0)


def load_checkpoint(
    model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, provenance: dict[str, Any]
) -> TrainingProgress:
    """Restore model and optimiser, each process its shard.

    Args:
        model: restored in place.
        optimizer: restored in place.
        path: of the checkpoint.
        provenance: of the run that continues.

    Raises:
        UserError: no checkpoint, truncated, of another shape, or of a run with another spec, data or revision of the
            training; the fields are named.
    """
    tensors, header = _read(path)
    _require_same_run(path, header.get("provenance"), provenance)
    _restore(model, optimizer, tensors, path)
    return TrainingProgress(header["step"], [(step, loss) for step, loss in header["curve"]])


def require_trunk_checkpoint(folder: Path, step: int) -> Path:
    """Path of the checkpoint that a branch starts from.

    Raises:
        TrunkCheckpointMissing: the trunk in `folder` has none at `step`.
    """
    path = checkpoint_path(folder, step)
    if not path.exists():
        raise TrunkCheckpointMissing(
            f"{path}: the trunk left no checkpoint there; train it first, with {step} among the steps to `keep`."
        )
    return path


def load_trunk_checkpoint(
    model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, step: int, provenance: dict[str, Any]
) -> None:
    """Restore model and optimiser as they were in a trunk after `step` steps.

    Args:
        model: restored in place.
        optimizer: restored in place.
        folder: of the trunk.
        step: where the branch starts.
        provenance: of the branch.

    Raises:
        TrunkCheckpointMissing: the trunk has no checkpoint at `step`.
        UserError: the first steps of trunk and branch are not the same; the fields are named.
    """
    path = require_trunk_checkpoint(folder, step)
    tensors, header = _read(path)
    _require_same_run(path, _without_spec(header.get("provenance")), _without_spec(provenance))
    _restore(model, optimizer, tensors, path)


def _without_spec(provenance: dict[str, Any] | None) -> dict[str, Any] | None:
    """What trunk and branch must have in common: data, code and the `trunk` part of the spec."""
    return provenance and {key: value for key, value in provenance.items() if key != "spec"}


def _restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path
) -> None:
    state = model.state_dict()
    wanted = {name: tuple(value.shape) for name, value in state.items()}
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
        for name, value in state.items():
            value.copy_(shard_like(tensors[f"model.{name}"], value))
    optimizer_state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            like = parameters[int(number)]
            restored = shard_like(value, like) if value.ndim else value
            optimizer_state.setdefault(int(number), {})[key] = restored
    optimizer.load_state_dict(
        {"state": optimizer_state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _require_same_run(path: Path, found: dict[str, Any] | None, wanted: dict[str, Any] | None) -> None:
    differing = differing_fields(found or {}, json.loads(json.dumps(wanted)))
    if differing:
        raise UserError(
            f"{path}: belongs to another run; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to start again."
        )


def _write(tensors: dict[str, Tensor], path: Path, header: dict[str, Any]) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    write_file(path, save(contiguous, metadata={"speechscale": json.dumps(header)}))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["speechscale"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: not a checkpoint of speechscale, or damaged ({error}); remove it, and the same training "
            "continues from an earlier one, or from its start."
        ) from error
