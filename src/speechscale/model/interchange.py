"""Export and import of models: Hugging Face `LlamaForCausalLM` folders, and those of the study's release.

Both formats are `config.json` and safetensors. Hugging Face rotates dimensions i and i + K/2 of a head together, as
this package does. The release rotates neighbours, 2i and 2i + 1, so its query and key rows are in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors.torch import save
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.checkpoint_configs import (
    MODEL_TYPES,
    CheckpointFormat,
    hugging_face_config,
    official_config,
    shape_from_config,
)
from speechscale.model.transformer import Transformer
from speechscale.model.weight_files import CONFIG, WEIGHTS, read_weights, require_folder
from speechscale.records.json_objects import read_json_object
from speechscale.records.seal import atomic_directory, write_file, write_json

_UNITS_KEY = "speechscale"  # key of config.json under which an export records the units of the model
_Names = tuple[str, ...]
# Our parameters, and the tensors that each is split into: in Hugging Face's format, in the release.
_MODEL_TENSORS: tuple[tuple[str, _Names, _Names], ...] = (
    ("embedding.weight", ("model.embed_tokens",), ("tok_embeddings",)),
    ("norm", ("model.norm",), ("norm",)),
)
_LAYER_TENSORS: tuple[tuple[str, _Names, _Names], ...] = (
    ("attention_norm", ("input_layernorm",), ("attention_norm",)),
    (
        "qkv.weight",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("attention.wq", "attention.wk", "attention.wv"),
    ),
    ("out.weight", ("self_attn.o_proj",), ("attention.wo",)),
    ("mlp_norm", ("post_attention_layernorm",), ("ffn_norm",)),
    ("gate_up.weight", ("mlp.gate_proj", "mlp.up_proj"), ("feed_forward.w1", "feed_forward.w3")),
    ("down.weight", ("mlp.down_proj",), ("feed_forward.w2",)),
)
_LAYER_PREFIX = {"hugging-face": "model.layers", "official": "layers"}
_OUTPUT_PROJECTION = {"hugging-face": "lm_head.weight", "official": "output.weight"}  # absent if tied


@dataclass(frozen=True)
class ModelUnits:
    """The units of a model, as its config records them.

    Attributes:
        encoder: identity of the encoder; None where it is unknown.
        kmeans: SHA-256 of the codebook; None where it is unknown.
    """

    encoder: JsonValue = None
    kmeans: str | None = None


def export_model(model: Transformer, folder: Path, to: CheckpointFormat, units: ModelUnits) -> None:
    """Write `config.json` and `model.safetensors` (float32) to a new folder, atomically.

    Args:
        model: the model to export.
        folder: the folder to create.
        to: the format.
        units: the units of the model, which the config keeps for a later import.
    """
    config = hugging_face_config(model.shape) if to == "hugging-face" else official_config(model.shape)
    weights = {name: value.float().cpu().contiguous() for name, value in _to_format(model, to).items()}
    with atomic_directory(folder) as staging:
        write_json(staging / CONFIG, {**config, _UNITS_KEY: asdict(units)})
        write_file(staging / WEIGHTS, save(weights, metadata={"format": "pt"}))


def import_model(folder: Path) -> tuple[Transformer, ModelUnits]:
    """Read a model of either format.

    Returns:
        The model in evaluation mode, and what its config says of its units, possibly nothing.

    Raises:
        UserError: a pickle, an unknown format, another architecture (the key is named), or tensors that are missing,
            unknown or of another shape (named).
    """
    require_folder(folder)
    path = folder / CONFIG
    config = read_json_object(path)
    model_type = config.get("model_type")
    if model_type not in tuple(MODEL_TYPES):  # compared, because foreign values may not be hashable
        raise UserError(f"{path}: model_type is {model_type!r}; 'llama' or 'slm' is wanted.")
    model = Transformer(shape_from_config(config, path))
    model.load_state_dict(_from_format(model, read_weights(folder), MODEL_TYPES[model_type], folder))
    return model.eval(), _recorded_units(path, config.get(_UNITS_KEY, {}))


def _recorded_units(path: Path, value: object) -> ModelUnits:
    if not isinstance(value, dict) or not isinstance(value.get("kmeans"), str | None):
        raise UserError(
            f"{path}: {_UNITS_KEY} is {value!r:.80}; an object with encoder and kmeans is wanted."
        )
    return ModelUnits(value.get("encoder"), value.get("kmeans"))


def _tensor_names(format: CheckpointFormat, layers: int) -> dict[str, list[str]]:
    """For each of our parameters, the names of the tensors that it is split into."""
    column = 0 if format == "hugging-face" else 1
    names = {}
    for parameter, *tensors in _MODEL_TENSORS:
        names[parameter] = [f"{name}.weight" for name in tensors[column]]
    for number in range(layers):
        for parameter, *tensors in _LAYER_TENSORS:
            prefix = f"{_LAYER_PREFIX[format]}.{number}"
            names[f"blocks.{number}.{parameter}"] = [f"{prefix}.{name}.weight" for name in tensors[column]]
    return names


def _to_format(model: Transformer, format: CheckpointFormat) -> dict[str, Tensor]:
    """The weights under the names of a format, fused matrices split."""
    state = model.state_dict()
    weights: dict[str, Tensor] = {}
    for parameter, names in _tensor_names(format, model.shape.layers).items():
        tensors = state[parameter].detach().chunk(len(names))
        if format == "official" and parameter.endswith("qkv.weight"):
            query, key, value = tensors
            tensors = (*(_to_adjacent_rows(rows, model.shape.heads) for rows in (query, key)), value)
        weights |= zip(names, tensors, strict=True)
    return weights


def _from_format(
    model: Transformer, weights: dict[str, Tensor], format: CheckpointFormat, folder: Path
) -> dict[str, Tensor]:
    """The state of our model: shapes checked, split matrices fused, rows in our order."""
    names = _tensor_names(format, model.shape.layers)
    output_name, (embedding_name,) = _OUTPUT_PROJECTION[format], names["embedding.weight"]
    output = weights.pop(output_name, None)
    if output is not None and not torch.equal(output, weights.get(embedding_name, torch.empty(0))):
        raise UserError(
            f"{folder}: {output_name} differs from {embedding_name}; only tied embeddings are supported."
        )
    _check_tensors(weights, _to_format(model, format), folder)
    state = {}
    for parameter, tensor_names in names.items():
        tensors = [weights[name].float() for name in tensor_names]
        if format == "official" and parameter.endswith("qkv.weight"):
            query, key, value = tensors
            tensors = [*(_from_adjacent_rows(rows, model.shape.heads) for rows in (query, key)), value]
        state[parameter] = torch.cat(tensors)
    return state


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise UserError(
            f"{folder}: the weights are not those that {CONFIG} describes; missing: {_first_names(missing)}; "
            f"unknown: {_first_names(unknown)}."
        )
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise UserError(
                f"{folder}: {name} has the shape {list(found[name].shape)}, {CONFIG} wants {list(value.shape)}."
            )


def _to_adjacent_rows(rows: Tensor, heads: int) -> Tensor:
    """Rows [H * K, D] with i and i + K/2 of a head moved to 2i and 2i + 1."""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).flatten(0, 2)


def _from_adjacent_rows(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `_to_adjacent_rows`."""
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).flatten(0, 2)


def _first_names(names: list[str]) -> str:
    return (", ".join(names[:3]) + (" …" if len(names) > 3 else "")) or "none"
