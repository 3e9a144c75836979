"""Interchange: equal logits in Hugging Face's Llama, and in a reference implementation of the release."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import add_noise, random_transformer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from speechscale.errors import UserError
from speechscale.model.interchange import ModelUnits, export_model, import_model
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer

SHAPE = ModelShape(layers=2, dim=48, heads=3, vocabulary=22, context=40, hidden_multiple=32)
TOKENS = torch.randint(0, 22, (3, 40), generator=torch.Generator().manual_seed(0))
UNITS = ModelUnits(encoder={"name": "mel"}, kmeans="abc")


@pytest.fixture
def model() -> Transformer:
    return random_transformer(SHAPE, 0.1)


def logits_of(model: Transformer) -> Tensor:
    with torch.no_grad():
        return model(TOKENS)


def release_logits(config: dict[str, Any], weights: dict[str, Tensor]) -> Tensor:
    """Reference logits of the released architecture: neighbouring dimensions rotate as one complex number."""
    sizes = config["model_args"]
    heads, width = sizes["n_heads"], sizes["dim"] // sizes["n_heads"]
    length = TOKENS.shape[1]
    angles = torch.tensor(
        [[t * 10_000.0 ** (-2 * i / width) for i in range(width // 2)] for t in range(length)],
        dtype=torch.float64,
    )
    rotation = torch.polar(torch.ones_like(angles), angles)
    weights = {name: value.double() for name, value in weights.items()}

    def norm(x: Tensor, gain: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + sizes["norm_eps"]).sqrt() * weights[gain]

    def rotate(x: Tensor) -> Tensor:  # [B, T, H, K]
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * rotation[:, None]).flatten(-2)

    x = weights["tok_embeddings.weight"][TOKENS]
    for number in range(sizes["n_layers"]):
        at = f"layers.{number}"
        h = norm(x, f"{at}.attention_norm.weight")
        q, k, v = (
            (h @ weights[f"{at}.attention.{name}.weight"].T).unflatten(-1, (heads, width))
            for name in ("wq", "wk", "wv")
        )
        scores = torch.einsum("bthk,bshk->bhts", rotate(q), rotate(k)) / math.sqrt(width)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
        mixed = torch.einsum("bhts,bshk->bthk", scores.softmax(-1), v).flatten(2)
        x = x + mixed @ weights[f"{at}.attention.wo.weight"].T
        h = norm(x, f"{at}.ffn_norm.weight")
        gate, up = (h @ weights[f"{at}.feed_forward.{name}.weight"].T for name in ("w1", "w3"))
        x = x + (gate * torch.sigmoid(gate) * up) @ weights[f"{at}.feed_forward.w2.weight"].T
    return norm(x, "norm.weight") @ weights["tok_embeddings.weight"].T


def release(tmp_path: Path, **changed: Any) -> Path:
    """A random model in the format of the release, as its code saves it (hidden_dim null, without the output)."""
    sizes = {
        "dim": 48,
        "n_layers": 2,
        "n_heads": 3,
        "n_kv_heads": None,
        "vocab_size": 22,
        "prefix_vocab_size": None,
    }
    sizes |= {"hidden_dim": None, "multiple_of": 32, "norm_eps": 1e-5, "block_size": 40, "dropout": 0.0}
    config = {"format_version": 1, "model_type": "slm", "model_args": {**sizes, **changed}}
    generator = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (22, 48), "norm.weight": (48,)}
    for number in range(2):
        at = f"layers.{number}"
        shapes |= {f"{at}.attention.{name}.weight": (48, 48) for name in ("wq", "wk", "wv", "wo")}
        shapes |= {f"{at}.feed_forward.{name}.weight": (128, 48) for name in ("w1", "w3")}
        shapes |= {f"{at}.feed_forward.w2.weight": (48, 128)}
        shapes |= {f"{at}.attention_norm.weight": (48,), f"{at}.ffn_norm.weight": (48,)}
    weights = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def llama(tmp_path: Path, **changed: Any) -> tuple[LlamaForCausalLM, Path]:
    settings = {
        "vocab_size": 22,
        "hidden_size": 48,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 40,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": 20,
        "eos_token_id": 20,
        "pad_token_id": 21,
    }
    torch.manual_seed(2)
    theirs = LlamaForCausalLM(LlamaConfig(**{**settings, **changed})).eval()
    add_noise(theirs, 0.1)
    theirs.save_pretrained(tmp_path / "llama")
    return theirs, tmp_path / "llama"


def test_transformers_loads_an_export(model: Transformer, tmp_path: Path) -> None:
    export_model(model, tmp_path / "out", "hugging-face", UNITS)
    theirs, info = LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        assert (theirs(TOKENS).logits - logits_of(model)).abs().max() < 1e-5
    config = theirs.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (20, 20, 21)
    assert config.max_position_embeddings == 40 and config.tie_word_embeddings
    assert theirs.num_parameters() == SHAPE.params_total


def test_import_of_a_transformers_model(tmp_path: Path) -> None:
    theirs, folder = llama(tmp_path)
    ours, units = import_model(folder)
    with torch.no_grad():
        assert (theirs(TOKENS).logits - logits_of(ours)).abs().max() < 1e-5
    assert ours.shape.hidden == 160 and units == ModelUnits()


def test_bfloat16_weights_become_float32(tmp_path: Path) -> None:
    theirs, folder = llama(tmp_path)
    theirs.bfloat16().save_pretrained(folder)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours, _ = import_model(folder)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    with torch.no_grad():
        assert (theirs(TOKENS).logits - logits_of(ours)).abs().max() < 1e-5


def test_import_of_several_files_with_an_index(tmp_path: Path) -> None:
    theirs, folder = llama(tmp_path)
    whole = logits_of(import_model(folder)[0])
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert torch.equal(logits_of(import_model(folder)[0]), whole)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "../model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="outside the folder"):
        import_model(folder)


def test_release_computes_the_logits_of_an_export(model: Transformer, tmp_path: Path) -> None:
    export_model(model, tmp_path / "out", "official", UNITS)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = release_logits(config, load_file(tmp_path / "out" / "model.safetensors"))
    assert (theirs - logits_of(model)).abs().max() < 1e-5


def test_import_of_a_release_model(tmp_path: Path) -> None:
    folder = release(tmp_path)
    ours, _ = import_model(folder)
    config = json.loads((folder / "config.json").read_text())
    theirs = release_logits(config, load_file(folder / "model.safetensors"))
    assert theirs.std() > 0.2
    assert (theirs - logits_of(ours)).abs().max() < 1e-5


@pytest.mark.parametrize("to", ["hugging-face", "official"])
def test_export_and_import_give_the_same_model(model: Transformer, tmp_path: Path, to: Any) -> None:
    export_model(model, tmp_path / "out", to, UNITS)
    again, units = import_model(tmp_path / "out")
    assert units == UNITS and again.shape.params == SHAPE.params
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; models here have 3"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps is 1e-06"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_theta is 500000.0"),
        ({"tie_word_embeddings": False}, "lm_head.weight differs from model.embed_tokens.weight"),
        ({"intermediate_size": 64}, "a hidden width of 64 at dim 48; models here have at least 128"),
        ({"eos_token_id": 2}, "eos_token_id is 2, wanted 20"),
    ],
)
def test_other_architectures_are_refused_with_the_key(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        import_model(llama(tmp_path, **changed)[1])


def test_prefix_model_of_the_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prefix_vocab_size is 9; models here have None"):
        import_model(release(tmp_path, prefix_vocab_size=9))


def test_unexpected_tensors_are_named_in_the_error(tmp_path: Path) -> None:
    folder = release(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"layers.1.attention.wo.weight": torch.zeros(48, 47)}, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"layers\.1\.attention\.wo\.weight has the shape \[48, 47\].*\[48, 48\]"
    ):
        import_model(folder)
    weights["extra"] = weights.pop("norm.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"missing: norm\.weight; unknown: extra"):
        import_model(folder)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("by_torch", [True, False])
def test_pickles_are_refused_without_opening_them(tmp_path: Path, name: str, by_torch: bool) -> None:
    folder = release(tmp_path)
    (folder / "model.safetensors").unlink()
    if by_torch:
        torch.save(Trap(tmp_path / "sprung"), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match="a pickle, which can run code"):
        import_model(folder)
    with pytest.raises(UserError, match=r"a pickle.*a folder with config\.json is wanted"):
        import_model(folder / name)
    assert not (tmp_path / "sprung").exists()


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    folder = release(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UserError, match="damaged, or no safetensors"):
        import_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors here"):
        import_model(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="model_type is 'gpt2'"):
        import_model(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="the key 'num_attention_heads' is missing"):
        import_model(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        import_model(folder)
