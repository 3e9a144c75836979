"""Model and optimiser state on disk: safetensors, written atomically."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from speechscale.errors import UserError
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.json_objects import JsonObject
from speechscale.records.runs import RunRecord
from speechscale.records.seal import differing_fields, write_file
from speechscale.records.training_provenance import TrainingProvenance
from speechscale.records.validation import first_fault
from speechscale.train.distributed import SINGLE_PROCESS, DistributedContext, full_tensor, shard_like

Header = TypeVar("Header", bound=BaseModel)
MODEL = "model.safetensors"
_CHECKPOINT = "training-"  # followed by the number of steps made


class TrunkCheckpointMissing(UserError):
    """A trunk has no checkpoint at the step where a branch starts."""


class ModelHeader(BaseModel):
    """Header of `model.safetensors`; the record is parsed where it is needed, for it may be of another version."""

    model_config = ConfigDict(frozen=True)

    shape: ModelShape
    code: CodeIdentity | None = None
    provenance: TrainingProvenance
    record: dict[str, JsonValue]


class CheckpointHeader(BaseModel):
    """Header of a checkpoint: steps made, and the test losses on the way as (step, loss)."""

    model_config = ConfigDict(frozen=True)

    code: CodeIdentity | None = None
    provenance: TrainingProvenance = TrainingProvenance()
    step: int
    curve: list[tuple[int, float]]


@dataclass(frozen=True)
class TrainingProgress:
    """Steps that a run has made, and the test losses on the way as (step, loss)."""

    step: int
    curve: list[tuple[int, float]]


def save_model(
    model: Transformer,
    path: Path,
    provenance: TrainingProvenance,
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
    header = ModelHeader(
        shape=model.shape,
        code=code_identity(),
        provenance=provenance,
        record=record.model_dump(mode="json"),
    )
    if context.is_main:
        _write(tensors, path, header)


def load_model(path: Path) -> tuple[Transformer, TrainingProvenance]:
    """A model in evaluation mode on the CPU, and its provenance.

    Raises:
        UserError: missing, truncated, not a model of speechscale, or weights of another shape.
    """
    tensors, header = _read_model(path)
    model = Transformer(header.shape)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the shape in the header ({error}).") from error
    return model.eval(), header.provenance


def read_record_if_finished(path: Path, provenance: TrainingProvenance) -> RunRecord | None:
    """The record in the header of the model at `path`; None where there is no model.

    Raises:
        UserError: the model is of another run; the differing fields are named.
    """
    if not path.exists():
        return None
    _, header = _read_model(path)
    _require_same_run(path, header.provenance.model_dump(), provenance.model_dump())
    return RunRecord.model_validate(header.record)


def _read_model(path: Path) -> tuple[dict[str, Tensor], ModelHeader]:
    tensors, header = _read(path)
    if not {"shape", "provenance", "record"} <= header.keys():
        raise UserError(
            f"{path}: is no model but a checkpoint of its training; a run writes {MODEL} when it is done."
        )
    return tensors, _parse_header(path, ModelHeader, header)


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], CheckpointHeader]:
    tensors, header = _read(path)
    return tensors, _parse_header(path, CheckpointHeader, header)


def _parse_header(path: Path, kind: type[Header], header: JsonObject) -> Header:
    try:
        return kind.model_validate(header)
    except ValidationError as error:
        raise _damaged(path, first_fault(error, "the header")) from error


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
    provenance: TrainingProvenance,
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
        header = CheckpointHeader(
            code=code_identity(), provenance=provenance, step=progress.step, curve=progress.curve
        )
        _write(tensors, checkpoint_path(folder, progress.step), header)


def _on_main_process(value: Tensor, context: DistributedContext) -> Tensor:
    """The full tensor on the CPU of the main process; an empty one on the others, which only send their shards."""
    value = full_tensor(value.detach())
    return value.cpu() if context.is_main else value.new_empty(0)


def load_checkpoint(
    model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, provenance: TrainingProvenance
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
    tensors, header = _read_checkpoint(path)
    _require_same_run(path, header.provenance.model_dump(), provenance.model_dump())
    _restore(model, optimizer, tensors, path)
    return TrainingProgress(header.step, header.curve)


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
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    step: int,
    provenance: TrainingProvenance,
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
    tensors, header = _read_checkpoint(path)
    _require_same_run(path, header.provenance.shared_with_trunk(), provenance.shared_with_trunk())
    _restore(model, optimizer, tensors, path)


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


def _require_same_run(path: Path, found: dict[str, JsonValue], wanted: dict[str, JsonValue]) -> None:
    differing = differing_fields(found, json.loads(json.dumps(wanted)))
    if differing:
        raise UserError(
            f"{path}: belongs to another run; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to start again."
        )


def _write(tensors: dict[str, Tensor], path: Path, header: ModelHeader | CheckpointHeader) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    write_file(path, save(contiguous, metadata={"speechscale": json.dumps(header.model_dump())}))


def _read(path: Path) -> tuple[dict[str, Tensor], JsonObject]:
    try:
        with safe_open(path, framework="pt") as file:
            header: JsonObject = json.loads((file.metadata() or {})["speechscale"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: not a checkpoint of speechscale, or damaged ({reason}); remove it, and the same training "
        "continues from an earlier one, or from its start."
    )
