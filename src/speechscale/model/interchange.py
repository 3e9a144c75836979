"""Export and import of models: Hugging Face `LlamaForCausalLM` folders, and those of the study's release.

Both formats are `config.json` and safetensors. Hugging Face rotates dimensions i and i + K/2 of a head together, as
this package does. The release rotates neighbours, 2i and 2i + 1, so its query and key rows are in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.checkpoint_configs import (
    MODEL_TYPES,
    hugging_face_config,
    official_config,
    shape_from_config,
)
from speechscale.model.transformer import Transformer
from speechscale.model.weight_files import CONFIG, WEIGHTS, read_json_object, read_weights, require_folder
from speechscale.records.seal import atomic_directory, write_file, write_json

CheckpointFormat = Literal["hugging-face", "official"]
_UNITS_KEY = "speechscale"  # key of config.json under which an export records the units of the model


@dataclass(frozen=True)
class _TensorNames:
    """Tensor names of a format.

    Attributes:
        embedding: the input embedding.
        output: the output projection; absent from the file if tied.
        norm: the last norm.
        layer: name of a tensor of a layer; placeholders for the number of the layer and the part's name.
        parts: the tensors of a layer, by our parameter, which is their concatenation.
        adjacent_rotary: whether rotary positions rotate dimensions 2i and 2i + 1 together.
    """

    embedding: str
    output: str
    norm: str
    layer: str
    parts: Mapping[str, tuple[str, ...]]
    adjacent_rotary: bool

    def of_layer(self, number: int, parameter: str) -> list[str]:
        """Names of the tensors that one of our parameters is split into."""
        return [self.layer.format(number, part) for part in self.parts[parameter]]


# Our parameters of a layer, and the tensors that each is split into: in Hugging Face's format, in the release.
_LAYER_PARTS = (
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
_TENSOR_NAMES: dict[str, _TensorNames] = {
    "hugging-face": _TensorNames(
        embedding="model.embed_tokens.weight",
        output="lm_head.weight",
        norm="model.norm.weight",
        layer="model.layers.{}.{}.weight",
        parts={parameter: parts for parameter, parts, _ in _LAYER_PARTS},
        adjacent_rotary=False,
    ),
    "official": _TensorNames(
        embedding="tok_embeddings.weight",
        output="output.weight",
        norm="norm.weight",
        layer="layers.{}.{}.weight",
        parts={parameter: parts for parameter, _, parts in _LAYER_PARTS},
        adjacent_rotary=True,
    ),
}


def export_model(model: Transformer, folder: Path, to: CheckpointFormat, units: Mapping[str, Any]) -> None:
    """Write `config.json` and `model.safetensors` (float32) to a new folder, atomically.

    Args:
        model: the model to export.
        folder: the folder to create.
        to: the format.
        units: the units of the model (`encoder`, `kmeans`), which the config keeps for a later import.
    """
    config = hugging_face_config(model.shape) if to == "hugging-face" else official_config(model.shape)
    tensors = _to_format(model, _TENSOR_NAMES[to])
    weights = {name: value.float().cpu().contiguous() for name, value in tensors.items()}
    with atomic_directory(folder) as staging:
        write_json(staging / CONFIG, {**config, _UNITS_KEY: dict(units)})
        write_file(staging / WEIGHTS, save(weights, metadata={"format": "pt"}))


def import_model(folder: Path) -> tuple[Transformer, dict[str, Any]]:
    """Read a model of either format.

    Returns:
        The model in evaluation mode, and what its config says of its units (`encoder`, `kmeans`), possibly nothing.

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
    names = _TENSOR_NAMES[MODEL_TYPES[model_type]]
    model.load_state_dict(_from_format(model, read_weights(folder), names, folder))
    return model.eval(), config.get(_UNITS_KEY, {})


def _to_format(model: Transformer, names: _TensorNames) -> dict[str, Tensor]:
    """The weights under the names of a format, fused matrices split."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    weights = {names.embedding: state["embedding.weight"], names.norm: state["norm"]}
    for number in range(model.shape.layers):
        for parameter in names.parts:
            tensors = names.of_layer(number, parameter)
            weights |= zip(tensors, state[f"blocks.{number}.{parameter}"].chunk(len(tensors)), strict=True)
        if names.adjacent_rotary:
            for name in names.of_layer(number, "qkv.weight")[:2]:
                weights[name] = _to_adjacent_rows(weights[name], model.shape.heads)
    return weights


def _from_format(
    model: Transformer, weights: dict[str, Tensor], names: _TensorNames, folder: Path
) -> dict[str, Tensor]:
    """The state of our model: shapes checked, split matrices fused, rows in our order."""
    output = weights.pop(names.output, None)
    if output is not None and not torch.equal(output, weights.get(names.embedding, torch.empty(0))):
        raise UserError(
            f"{folder}: {names.output} differs from {names.embedding}; only tied embeddings are supported."
        )
    _check_tensors(weights, _to_format(model, names), folder)
    weights = {name: value.float() for name, value in weights.items()}
    state = {"embedding.weight": weights[names.embedding], "norm": weights[names.norm]}
    for number in range(model.shape.layers):
        if names.adjacent_rotary:
            for name in names.of_layer(number, "qkv.weight")[:2]:
                weights[name] = _from_adjacent_rows(weights[name], model.shape.heads)
        for parameter in names.parts:
            tensors = [weights[name] for name in names.of_layer(number, parameter)]
            state[f"blocks.{number}.{parameter}"] = torch.cat(tensors)
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
