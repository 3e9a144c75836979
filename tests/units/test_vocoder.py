"""The vocoder: a small random checkpoint in the published format, compared with a functional implementation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from speechscale.errors import UserError
from speechscale.records.seal import sha256_file
from speechscale.units.vocoder import load_vocoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*weight_norm. is deprecated"
)  # checkpoints hold the old form

CONFIG: dict[str, Any] = {  # the keys of the published file; those of training are there too
    "resblock": "1",
    "num_embeddings": 13,
    "embedding_dim": 8,
    "model_in_dim": 8,
    "upsample_initial_channel": 16,
    "upsample_rates": [5, 4],
    "upsample_kernel_sizes": [11, 8],
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 5]],
    "dur_prediction_weight": 1.0,
    "dur_predictor_params": {
        "encoder_embed_dim": 8,
        "var_pred_hidden_dim": 6,
        "var_pred_kernel_size": 3,
        "var_pred_dropout": 0.5,
    },
    "sampling_rate": 16000,
}
UNITS = np.array([3, 1, 4, 1, 5, 9, 2, 6])


def normed(conv: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A convolution's weights as the old weight norm of torch stores them: g and v."""
    return {f"{prefix}.{name}": value for name, value in weight_norm(conv).state_dict().items()}


def checkpoint() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = {"dict.weight": torch.randn(13, 8)}
    state |= normed(nn.Conv1d(8, 16, 7), "conv_pre")
    channels, number = 16, 0
    for index, (rate, kernel) in enumerate(zip([5, 4], [11, 8], strict=True)):
        state |= normed(nn.ConvTranspose1d(channels, channels // 2, kernel, rate), f"ups.{index}")
        channels //= 2
        for size in (3, 5):
            for part in ("convs1", "convs2"):
                for place in (0, 1):
                    state |= normed(nn.Conv1d(channels, channels, size), f"resblocks.{number}.{part}.{place}")
            number += 1
    state |= normed(nn.Conv1d(channels, 1, 7), "conv_post")
    for name, layer in {
        "conv1.0": nn.Conv1d(8, 6, 3),
        "ln1": nn.LayerNorm(6),
        "conv2.0": nn.Conv1d(6, 6, 3),
        "ln2": nn.LayerNorm(6),
        "proj": nn.Linear(6, 1),
    }.items():
        state |= {f"dur_predictor.{name}.{key}": value for key, value in layer.state_dict().items()}
    state["dur_predictor.proj.bias"] += 1.0  # so that units last one to several frames
    # Far from what normalisation starts with, so that every part of it matters.
    return {
        name: value + 0.1 * torch.randn_like(value) if "_g" in name else value
        for name, value in state.items()
    }


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Path]:
    torch.save({"generator": checkpoint()}, tmp_path / "g.pt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "g.pt", tmp_path / "config.json"


def reference_waveform(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Samples and frames of each unit, from the description of the format."""

    def weights(name: str) -> tuple[Tensor, Tensor]:
        g, v = state[f"{name}.weight_g"], state[f"{name}.weight_v"]
        return g * v / v.pow(2).sum(dim=(1, 2), keepdim=True).sqrt(), state[f"{name}.bias"]

    x = state["dict.weight"][torch.from_numpy(UNITS)].T[None]
    d = x
    for layer in ("1", "2"):
        at = f"dur_predictor.conv{layer}.0"
        d = F.conv1d(d, state[f"{at}.weight"], state[f"{at}.bias"], padding=1).relu()
        ln = f"dur_predictor.ln{layer}"
        d = F.layer_norm(d.transpose(1, 2), (6,), state[f"{ln}.weight"], state[f"{ln}.bias"]).transpose(1, 2)
    d = d[0].T @ state["dur_predictor.proj.weight"].T + state["dur_predictor.proj.bias"]
    frames = torch.clamp(torch.round(torch.exp(d[:, 0]) - 1), min=1).long()
    x = torch.cat([x[:, :, i : i + 1].expand(-1, -1, n) for i, n in enumerate(frames.tolist())], dim=2)
    x = F.conv1d(x, *weights("conv_pre"), padding=3)
    for up, (rate, kernel) in enumerate(zip([5, 4], [11, 8], strict=True)):
        x = F.conv_transpose1d(
            F.leaky_relu(x, 0.1), *weights(f"ups.{up}"), stride=rate, padding=(kernel - rate) // 2
        )
        branches = []
        for block, (size, dilations) in enumerate([(3, [1, 3]), (5, [1, 5])], start=2 * up):
            y = x
            for place, dilation in enumerate(dilations):
                at = f"resblocks.{block}"
                z = F.leaky_relu(y, 0.1)
                wide = dilation * (size - 1) // 2
                z = F.conv1d(z, *weights(f"{at}.convs1.{place}"), dilation=dilation, padding=wide)
                z = F.conv1d(F.leaky_relu(z, 0.1), *weights(f"{at}.convs2.{place}"), padding=size // 2)
                y = y + z
            branches.append(y)
        x = (branches[0] + branches[1]) / 2
    return torch.tanh(F.conv1d(F.leaky_relu(x, 0.01), *weights("conv_post"), padding=3))[0, 0], frames


def test_waveform_equals_the_reference(published: tuple[Path, Path]) -> None:
    wanted, frames = reference_waveform(checkpoint())
    found = load_vocoder(*published, sha256_file(published[0])).synthesize(UNITS)
    assert len(set(frames.tolist())) > 1
    assert len(found) == len(wanted) == int(frames.sum()) * 20
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    assert found.dtype == np.float32 and found.std() > 1e-3


def test_file_with_another_hash_is_refused(published: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"its SHA-256 is .*, wanted d88224e95c50"):
        load_vocoder(*published)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(published: tuple[Path, Path], tmp_path: Path) -> None:
    for write in (
        lambda path, value: torch.save(value, path),
        lambda path, value: path.write_bytes(pickle.dumps(value)),
    ):
        write(published[0], {"generator": Trap(tmp_path / "sprung")})
        with pytest.raises(UserError, match="not a vocoder checkpoint"):
            load_vocoder(*published, sha256_file(published[0]))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sampling_rate", 22050, "sampling_rate is 22050, wanted 16000"),
        ("upsample_rates", [5], "differ in length"),
        ("model_in_dim", 16, "several speakers"),
        ("num_embeddings", "13", "num_embeddings"),
        ("num_embeddings", 14, "the weights do not fit"),
    ],
)
def test_config_that_does_not_fit_is_refused(
    published: tuple[Path, Path], key: str, value: Any, message: str
) -> None:
    published[1].write_text(json.dumps(CONFIG | {key: value}))
    with pytest.raises(UserError, match=message):
        load_vocoder(*published, sha256_file(published[0]))


def test_files_that_are_not_a_checkpoint_are_refused(published: tuple[Path, Path]) -> None:
    for content in ({"model": {}}, {"generator": {"dict.weight": "text"}}, {"generator": {}}):
        torch.save(content, published[0])
        with pytest.raises(
            UserError, match=r"not a vocoder checkpoint|values that are not weights|the weights do not fit"
        ):
            load_vocoder(*published, sha256_file(published[0]))
    with pytest.raises(UserError, match="no such vocoder checkpoint"):
        load_vocoder(published[0].with_name("absent"), published[1])


@pytest.mark.parametrize("units", [[], [13], [-1]])
def test_units_outside_the_vocabulary_are_refused(published: tuple[Path, Path], units: list[int]) -> None:
    vocoder = load_vocoder(*published, sha256_file(published[0]))
    with pytest.raises(UserError, match="wanted units of the vocoder's 13"):
        vocoder.synthesize(np.array(units, dtype=np.int64))
