"""Conversion between `ModelShape` and the `config.json` of foreign checkpoint formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import NORM_EPS, ROPE_THETA
from speechscale.records.json_objects import JsonObject

CheckpointFormat = Literal["hugging-face", "official"]
# The format of each `model_type` in a `config.json`.
MODEL_TYPES: dict[str, CheckpointFormat] = {"llama": "hugging-face", "slm": "official"}


def hugging_face_config(shape: ModelShape) -> JsonObject:
    """The configuration of a `LlamaForCausalLM`."""
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
        "rope_theta": ROPE_THETA,  # for transformers before version 5, and other programs
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": shape.eos,  # the study puts EOS before a sequence
        "eos_token_id": shape.eos,
        "pad_token_id": shape.pad,
        "torch_dtype": "float32",
    }


def official_config(shape: ModelShape) -> JsonObject:
    """The configuration of the study's release."""
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


def shape_from_config(config: Mapping[str, Any], path: Path) -> ModelShape:
    """The shape that a configuration describes.

    Args:
        config: the content of the file, of a `model_type` in `MODEL_TYPES`.
        path: the file, for error messages.

    Raises:
        UserError: a key is missing, or describes another architecture (the key is named).
    """
    read = _shape_from_hugging_face if config["model_type"] == "llama" else _shape_from_official
    try:
        return read(config, path)
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing.") from error
    except (ValidationError, TypeError, ZeroDivisionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: describes no shape that is supported here ({reason}).") from error


def _shape_from_hugging_face(config: Mapping[str, Any], path: Path) -> ModelShape:
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _require_values(
        path,
        {
            "num_key_value_heads": (config.get("num_key_value_heads", heads), heads),
            "head_dim": (config.get("head_dim") or head_dim, head_dim),
            "hidden_act": (config.get("hidden_act", "silu"), "silu"),
            "attention_bias": (config.get("attention_bias", False), False),
            "mlp_bias": (config.get("mlp_bias", False), False),
            "rms_norm_eps": (config.get("rms_norm_eps", 1e-6), NORM_EPS),  # 1e-6: the default of LlamaConfig
            "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
            "rope_theta": (rope.get("rope_theta", config.get("rope_theta", ROPE_THETA)), ROPE_THETA),
        },
    )
    shape = _shape_with_hidden(
        path,
        config["intermediate_size"],
        layers=config["num_hidden_layers"],
        dim=config["hidden_size"],
        heads=heads,
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
    )
    for key, expected in (("eos_token_id", shape.eos), ("pad_token_id", shape.pad)):
        if config.get(key) not in (None, expected):
            raise UserError(
                f"{path}: {key} is {config[key]}, wanted {expected}: a vocabulary is the units, EOS, padding; "
                "this model has another one."
            )
    return shape


def _shape_from_official(config: Mapping[str, Any], path: Path) -> ModelShape:
    arguments = config["model_args"]
    heads, dim = arguments["n_heads"], arguments["dim"]
    _require_values(
        path,
        {
            "format_version": (config.get("format_version"), 1),
            "model_args.n_kv_heads": (arguments.get("n_kv_heads") or heads, heads),
            "model_args.prefix_vocab_size": (arguments.get("prefix_vocab_size"), None),
            "model_args.norm_eps": (arguments.get("norm_eps", NORM_EPS), NORM_EPS),
        },
    )
    multiple = arguments.get("multiple_of", 256)
    default = ModelShape(layers=1, dim=dim, heads=heads, vocabulary=2, context=2, hidden_multiple=multiple)
    return _shape_with_hidden(
        path,
        arguments.get("hidden_dim") or default.hidden,
        layers=arguments["n_layers"],
        dim=dim,
        heads=heads,
        vocabulary=arguments["vocab_size"],
        context=arguments["block_size"],
    )


def _require_values(path: Path, values: Mapping[str, tuple[Any, Any]]) -> None:
    for key, (found, expected) in values.items():
        if found != expected:
            raise UserError(f"{path}: {key} is {found!r}; models here have {expected!r}.")


def _shape_with_hidden(path: Path, hidden: int, **sizes: int) -> ModelShape:
    """The shape of a hidden width, which is a rounded-up multiple: of 256 as in the study where possible."""
    for multiple in (256, hidden):
        shape = ModelShape(**sizes, hidden_multiple=multiple)
        if shape.hidden == hidden:
            return shape
    raise UserError(
        f"{path}: a hidden width of {hidden} at dim {sizes['dim']}; models here have at least {8 * sizes['dim'] // 3}."
    )
