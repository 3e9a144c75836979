"""Models to and from other programs: Hugging Face `LlamaForCausalLM` folders, and those of the study's release.

Both are `config.json` beside safetensors. Hugging Face turns number i of a head with i + K/2, as we do; the release
turns neighbours, 2i with 2i + 1, so its query and key rows are put in another order. Only safetensors are read: a
pickle could run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from speechscale.errors import UserError
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import NORM_EPS, ROPE_THETA, Block, Transformer
from speechscale.records.seal import atomic_directory, write_file, write_json

Format = Literal["hugging-face", "official"]
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_OURS = "speechscale"  # key of the config under which we say which units the model speaks
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Names:
    """What a format calls its tensors; `{}` is the number of the layer."""

    embedding: str
    output: str  # left out where tied
    norm: str
    attention_norm: str
    qkv: tuple[str, str, str]
    out: str
    mlp_norm: str
    gate_up: tuple[str, str]
    down: str
    neighbours_turn: bool  # rotary positions pair 2i with 2i + 1


_NAMES = {
    "hugging-face": Names(
        embedding="model.embed_tokens.weight",
        output="lm_head.weight",
        norm="model.norm.weight",
        attention_norm="model.layers.{}.input_layernorm.weight",
        qkv=(
            "model.layers.{}.self_attn.q_proj.weight",
            "model.layers.{}.self_attn.k_proj.weight",
            "model.layers.{}.self_attn.v_proj.weight",
        ),
        out="model.layers.{}.self_attn.o_proj.weight",
        mlp_norm="model.layers.{}.post_attention_layernorm.weight",
        gate_up=("model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"),
        down="model.layers.{}.mlp.down_proj.weight",
        neighbours_turn=False,
    ),
    "official": Names(
        embedding="tok_embeddings.weight",
        output="output.weight",
        norm="norm.weight",
        attention_norm="layers.{}.attention_norm.weight",
        qkv=(
            "layers.{}.attention.wq.weight",
            "layers.{}.attention.wk.weight",
            "layers.{}.attention.wv.weight",
        ),
        out="layers.{}.attention.wo.weight",
        mlp_norm="layers.{}.ffn_norm.weight",
        gate_up=("layers.{}.feed_forward.w1.weight", "layers.{}.feed_forward.w3.weight"),
        down="layers.{}.feed_forward.w2.weight",
        neighbours_turn=True,
    ),
}


def export_model(model: Transformer, folder: Path, to: Format, units: Mapping[str, Any]) -> None:
    """Write `config.json` and `model.safetensors` (float32), the whole folder or nothing.

    Args:
        units: which units the model speaks (`encoder`, `kmeans`), kept in the config for whoever imports it.
    """
    config = _hugging_face_config(model.shape) if to == "hugging-face" else _official_config(model.shape)
    weights = {name: value.float().cpu().contiguous() for name, value in _renamed(model, _NAMES[to]).items()}
    with atomic_directory(folder) as aside:
        write_json(aside / CONFIG, {**config, _OURS: dict(units)})
        write_file(aside / WEIGHTS, save(weights, metadata={"format": "pt"}))


def import_model(folder: Path) -> tuple[Transformer, dict[str, Any]]:
    """The model of a folder in either format, in evaluation mode, and which units it speaks as far as it says so.

    Raises:
        UserError: a pickle, no known format, an architecture that is not ours (the key is named), or tensors that are
            missing, unknown or of another shape (named).
    """
    if folder.is_file():
        raise UserError(f"{folder}: {_pickle_or(folder, 'one file')}; a folder with {CONFIG} is wanted.")
    config = _read_json(folder / CONFIG)
    kind = config.get("model_type")
    try:
        if kind == "llama":
            shape, names = _shape_of_hugging_face(config, folder / CONFIG), _NAMES["hugging-face"]
        elif kind == "slm":
            shape, names = _shape_of_official(config, folder / CONFIG), _NAMES["official"]
        else:
            raise UserError(f"{folder / CONFIG}: model_type is {kind!r}; 'llama' or 'slm' is wanted.")
    except KeyError as error:
        raise UserError(f"{folder / CONFIG}: the key {error} is missing.") from error
    except (ValidationError, TypeError, ZeroDivisionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{folder / CONFIG}: no shape of ours ({why}).") from error
    model = Transformer(shape)
    model.load_state_dict(_our_weights(model, read_weights(folder), names, folder))
    return model.eval(), config.get(_OURS, {})


def _renamed(model: Transformer, names: Names) -> dict[str, Tensor]:
    """The weights under the names of a format, fused matrices taken apart."""
    weights = {names.embedding: model.embedding.weight, names.norm: model.norm}
    for number, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        parts = [
            (names.attention_norm, block.attention_norm),
            (names.out, block.out.weight),
            (names.mlp_norm, block.mlp_norm),
            (names.down, block.down.weight),
            *zip(names.qkv, block.qkv.weight.chunk(3), strict=True),
            *zip(names.gate_up, block.gate_up.weight.chunk(2), strict=True),
        ]
        weights |= {name.format(number): value for name, value in parts}
        if names.neighbours_turn:
            for name in (name.format(number) for name in names.qkv[:2]):
                weights[name] = _neighbours(weights[name], model.shape.heads)
    return {name: value.detach() for name, value in weights.items()}


def _our_weights(
    model: Transformer, found: dict[str, Tensor], names: Names, folder: Path
) -> dict[str, Tensor]:
    """`found` as our state: shapes checked, split matrices fused, rows in our order."""
    if names.output in found and not torch.equal(
        found.pop(names.output), found.get(names.embedding, torch.empty(0))
    ):
        raise UserError(
            f"{folder}: {names.output} differs from {names.embedding}; only tied embeddings are known here."
        )
    wanted = _renamed(model, names)
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        raise UserError(
            f"{folder}: the weights are not those that {CONFIG} describes; missing: {_few(missing)}; "
            f"unknown: {_few(unknown)}."
        )
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise UserError(
                f"{folder}: {name} has the shape {list(found[name].shape)}, {CONFIG} wants {list(value.shape)}."
            )
    found = {name: value.float() for name, value in found.items()}
    state = {"embedding.weight": found[names.embedding], "norm": found[names.norm]}
    for number in range(model.shape.layers):
        query, key, value = (found[name.format(number)] for name in names.qkv)
        if names.neighbours_turn:
            query, key = (_halves(each, model.shape.heads) for each in (query, key))
        ours = {
            "attention_norm": found[names.attention_norm.format(number)],
            "qkv.weight": torch.cat([query, key, value]),
            "out.weight": found[names.out.format(number)],
            "mlp_norm": found[names.mlp_norm.format(number)],
            "gate_up.weight": torch.cat([found[name.format(number)] for name in names.gate_up]),
            "down.weight": found[names.down.format(number)],
        }
        state |= {f"blocks.{number}.{name}": each for name, each in ours.items()}
    return state


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows [H * K, D] of which i and i + K/2 of a head turn together, as 2i and 2i + 1."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _halves(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `_neighbours`."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _hugging_face_config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,  # read by transformers before 5, and by other runtimes
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": shape.eos,  # the study puts EOS before a sequence
        "eos_token_id": shape.eos,
        "pad_token_id": shape.pad,
        "torch_dtype": "float32",
    }


def _official_config(shape: ModelShape) -> dict[str, Any]:
    return {
        "format_version": 1,
        "model_type": "slm",
        "architectures": ["TransformerLM"],
        "model_args": {
            "dim": shape.dim,
            "n_layers": shape.layers,
            "n_heads": shape.heads,
            "n_kv_heads": None,
            "vocab_size": shape.vocabulary,
            "prefix_vocab_size": None,
            "hidden_dim": shape.hidden,
            "multiple_of": shape.hidden_multiple,
            "norm_eps": NORM_EPS,
            "block_size": shape.context,
            "dropout": 0.0,
            "prefix_pad": None,
        },
        "torch_dtype": "float32",
        "tied_weights": ["tok_embeddings.weight", "output.weight"],
    }


def _shape_of_hugging_face(config: dict[str, Any], path: Path) -> ModelShape:
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _demand(
        path,
        {
            "num_key_value_heads": (config.get("num_key_value_heads", heads), heads),
            "head_dim": (
                config.get("head_dim") or config["hidden_size"] // heads,
                config["hidden_size"] // heads,
            ),
            "hidden_act": (config.get("hidden_act", "silu"), "silu"),
            "attention_bias": (config.get("attention_bias", False), False),
            "mlp_bias": (config.get("mlp_bias", False), False),
            "rms_norm_eps": (config.get("rms_norm_eps", 1e-6), NORM_EPS),  # 1e-6: the default of LlamaConfig
            "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
            "rope_theta": (rope.get("rope_theta", config.get("rope_theta", ROPE_THETA)), ROPE_THETA),
        },
    )
    shape = _shape(
        path,
        layers=config["num_hidden_layers"],
        dim=config["hidden_size"],
        heads=heads,
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        hidden=config["intermediate_size"],
    )
    for key, ours in (("eos_token_id", shape.eos), ("pad_token_id", shape.pad)):
        if config.get(key) not in (None, ours):
            raise UserError(
                f"{path}: {key} is {config[key]}, wanted {ours}: a vocabulary is the units, EOS, padding; "
                "this model speaks something else."
            )
    return shape


def _shape_of_official(config: dict[str, Any], path: Path) -> ModelShape:
    arguments = config["model_args"]
    heads, dim = arguments["n_heads"], arguments["dim"]
    _demand(
        path,
        {
            "format_version": (config.get("format_version"), 1),
            "model_args.n_kv_heads": (arguments.get("n_kv_heads") or heads, heads),
            "model_args.prefix_vocab_size": (arguments.get("prefix_vocab_size"), None),
            "model_args.norm_eps": (arguments.get("norm_eps", NORM_EPS), NORM_EPS),
        },
    )
    multiple = arguments.get("multiple_of", 256)
    usual = ModelShape(
        layers=1, dim=dim, heads=heads, vocabulary=2, context=2, hidden_multiple=multiple
    ).hidden
    return _shape(
        path,
        layers=arguments["n_layers"],
        dim=dim,
        heads=heads,
        vocabulary=arguments["vocab_size"],
        context=arguments["block_size"],
        hidden=arguments.get("hidden_dim") or usual,
    )


def _demand(path: Path, values: Mapping[str, tuple[Any, Any]]) -> None:
    for key, (found, wanted) in values.items():
        if found != wanted:
            raise UserError(f"{path}: {key} is {found!r}; models here have {wanted!r}.")


def _shape(path: Path, *, hidden: int, **sizes: int) -> ModelShape:
    """The shape whose hidden width, a rounded-up multiple, is `hidden`: the study's multiple where it fits."""
    for multiple in (256, hidden):
        shape = ModelShape(**sizes, hidden_multiple=multiple)
        if shape.hidden == hidden:
            return shape
    raise UserError(
        f"{path}: a hidden width of {hidden} at dim {sizes['dim']}; models here have at least {8 * sizes['dim'] // 3}."
    )


def _few(names: list[str]) -> str:
    return (", ".join(names[:3]) + (" …" if len(names) > 3 else "")) or "none"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: a JSON object is wanted.")
    return value


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of one file, or of several with an index."""
    if not (folder / INDEX).exists():
        return _read_file(folder, WEIGHTS)
    placed = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(placed, dict):
        raise UserError(f"{folder / INDEX}: no weight_map.")
    weights: dict[str, Tensor] = {}
    for name in sorted(set(placed.values())):
        if Path(name).name != name:
            raise UserError(f"{folder / INDEX}: names {name!r}, which may lie outside the folder.")
        weights |= _read_file(folder, name)
    return weights


def _read_file(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / name
    if not path.exists():
        pickles = sorted(each.name for each in folder.iterdir() if each.suffix in _PICKLES)
        if pickles:
            raise UserError(f"{folder / pickles[0]}: {_pickle_or(folder / pickles[0], '')}.")
        raise UserError(f"{folder}: no {name} here.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: {_pickle_or(path, f'damaged, or no safetensors ({error})')}.") from error


def _pickle_or(path: Path, otherwise: str) -> str:
    """Says that a file is a pickle, where its name or its first bytes do (torch zips them; safetensors have a JSON
    object at byte 8)."""
    with path.open("rb") as stream:
        first = stream.read(9)
    if path.suffix in _PICKLES or first[:4] == b"PK\x03\x04" or (first[:1] == b"\x80" and first[8:] != b"{"):
        return (
            "a pickle, which can run code when it is opened; only safetensors are read, so convert it where you "
            "trust it"
        )
    return otherwise
