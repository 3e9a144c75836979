"""HuBERT: batches equal transformers on single utterances; frame counts, pinned revisions and error sentences.

The models are small and random, with the geometry of the real ones, and are saved and loaded like them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechscale.compute import ComputeOptions
from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Utterance, write_manifest
from speechscale.records.shards import open_shard
from speechscale.units.codebook import load_codebook, save_codebook
from speechscale.units.encode import encode_shard, plan_shards
from speechscale.units.encoders import Encoder, encoder_identity, load_encoder
from speechscale.units.hubert import ENCODER_PRESETS, HubertEncoder, HubertSpec, batches_by_length
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.precision_check import PrecisionTask, count_changed_units
from speechscale.units.source import SpeechSource

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RATE = 16_000
GEOMETRY: dict[str, Any] = {
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2, 2),
    "conv_pos_batch_norm": True,
}
SMALL: dict[str, Any] = {
    **GEOMETRY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32,) * 8,
}
STABLE: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "base with batch norm": {},
    "base with weight norm": {"conv_pos_batch_norm": False, "conv_bias": True},
    "large": {**STABLE, "conv_pos_batch_norm": False},
    "large with adapters": {"do_stable_layer_norm": True, "adapter_attn_dim": 8},
    "20 ms, no projection norm": {
        "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "conv_dim": (32,) * 7,
        "feat_proj_layer_norm": False,
    },
}


def random_model(folder: Path, **settings: Any) -> Path:
    """A HuBERT whose norms are all far from the identity, so that a wrong mask shows."""
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**settings))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, 0.0, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.3, 3.0)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.GroupNorm | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("small"), **SMALL)


def hidden_states_one_by_one(folder: Path, waves: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """All hidden states of each wave by itself, by transformers."""
    model = transformers.HubertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [
            [
                state[0].numpy()
                for state in model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states
            ]
            for wave in waves
        ]


def random_sounds(seconds: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """Gliding tones in noise, with silences; each of its own loudness and offset."""
    rng = np.random.default_rng(seed)
    waves = []
    for length in seconds:
        count = round(length * RATE)
        steps = -(-count // 1600)
        loud, pitch = (np.repeat(rng.uniform(*r, steps), 1600)[:count] for r in ((0, 0.3), (80, 3000)))
        tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.3 * rng.standard_normal(count)
        waves.append((rng.uniform(0.05, 1) * loud * tone + rng.normal(0, 0.01)).astype(np.float32))
    return waves


def error_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest relative error of a frame."""
    assert found.shape == wanted.shape and found.dtype == np.float32
    return float((np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max())


def encoder_of(folder: Path, compute: ComputeOptions | None = None, **settings: Any) -> Encoder:
    return load_encoder(encoder_identity(str(folder), settings), compute or ComputeOptions(device="cpu"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_hidden_state_of_a_mixed_batch_equals_the_single_pass(tmp_path: Path, variant: str) -> None:
    folder = random_model(tmp_path, **SMALL | VARIANTS[variant])
    waves = random_sounds(
        [3.1, 720 / RATE, 1.0, 7.80125, 0.5]
    )  # the longest has a tail of 580 samples without frame
    alone = hidden_states_one_by_one(folder, waves)
    for layer in range(SMALL["num_hidden_layers"] + 1):
        encoder = encoder_of(folder, layer=layer, chunk_seconds=0.0)
        for found, states in zip(encoder.encode(waves), alone, strict=True):
            assert error_of(found, states[layer]) < 1e-4


def test_padded_batch_without_masks_differs_from_the_single_pass(small: Path) -> None:
    """Why masks are needed: the usual padded batch, with or without attention mask, gives other frames."""
    waves = random_sounds([5.0, 2.0])
    wanted = hidden_states_one_by_one(small, waves)[1][2]
    model = transformers.HubertModel.from_pretrained(small).eval()
    padded = torch.zeros(2, len(waves[0]))
    mask = torch.zeros(2, len(waves[0]), dtype=torch.long)
    for row, wave in enumerate(waves):
        padded[row, : len(wave)] = torch.from_numpy(wave)
        mask[row, : len(wave)] = 1
    for attention_mask in (None, mask):
        with torch.inference_mode():
            states = model(padded, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        assert error_of(states[2][1].numpy()[: len(wanted)], wanted) > 0.02


def test_units_do_not_depend_on_the_batch(small: Path) -> None:
    """At least 99.99 % of 10,000 frames; batches of any composition, convolved in tiles or whole."""
    waves = random_sounds(np.random.default_rng(1).uniform(2, 15, 52).tolist())
    wanted = [states[2] for states in hidden_states_one_by_one(small, waves)]
    book = train_kmeans(np.concatenate(wanted), KMeansSpec(clusters=500, iterations=3), {})
    units = [book.assign(frames) for frames in wanted]
    assert sum(map(len, units)) > 10_000

    def check(found: Sequence[np.ndarray]) -> None:
        assert max(map(error_of, found, wanted)) < 1e-4
        changed = sum(int((book.assign(f) != u).sum()) for f, u in zip(found, units, strict=True))
        assert changed <= 1e-4 * sum(map(len, units))

    mixed = encoder_of(small, ComputeOptions(device="cpu", batch_seconds=1e9), layer=2, chunk_seconds=0.0)
    together = mixed.encode(waves)
    check(together)
    assert all(map(np.array_equal, together, mixed.encode(waves)))
    assert isinstance(mixed, HubertEncoder)
    mixed._forward.tile = None  # as on a GPU
    check(mixed.encode(waves))
    for seconds in (1.0, 60.0):
        compute = ComputeOptions(device="cpu", batch_seconds=seconds)
        check(encoder_of(small, compute, layer=2, chunk_seconds=0.0).encode(waves))


@pytest.mark.parametrize(
    ("chunk_seconds", "padding", "frames"), [(30.0, 0, 1498), (100.0, 0, 1499), (0.0, 40, 1500)]
)
def test_chunk_length_and_padding_give_the_published_frame_counts(
    small: Path, chunk_seconds: float, padding: int, frames: int
) -> None:
    encoder = encoder_of(small, layer=1, chunk_seconds=chunk_seconds, padding=padding)
    (wave,) = random_sounds([60.0])
    (found,) = encoder.encode([wave])
    assert found.shape == (frames, encoder.dimension) == (frames, 64)
    assert encoder.frame_rate == 25.0
    size = round(chunk_seconds * RATE) or len(wave) + 2 * padding
    padded = np.pad(wave, padding)
    chunks = [padded[start : start + size] for start in range(0, len(padded), size)]
    assert error_of(found, np.concatenate([s[1] for s in hidden_states_one_by_one(small, chunks)])) < 1e-4


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (1, 0), (719, 0), (720, 1), (1359, 1), (1360, 2), (16_000 + 719, 24), (16_000 + 720, 25)],
)
def test_audio_shorter_than_the_receptive_field_gives_no_frame(
    small: Path, samples: int, frames: int
) -> None:
    """The field is 720 samples, the step 640; a chunk of one second gives 24 frames, then the last chunk is encoded."""
    encoder = encoder_of(small, layer=0, chunk_seconds=1.0)
    found, other = encoder.encode([np.ones(samples, dtype=np.float32), np.ones(2000, dtype=np.float32)])
    assert found.shape == (frames, 64) and len(other) == 3
    assert not encoder.encode([])


def test_normalisation_equals_that_of_the_feature_extractor(small: Path) -> None:
    waves = random_sounds([1.0, 2.5])
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    normalised = [extractor(wave, sampling_rate=RATE).input_values[0] for wave in waves]
    encoder = encoder_of(small, layer=2, normalize=True)
    for found, states in zip(encoder.encode(waves), hidden_states_one_by_one(small, normalised), strict=True):
        assert error_of(found, states[2]) < 1e-4


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 300))
def test_batches_contain_each_index_once_within_capacity(lengths: list[int], capacity: int) -> None:
    batches = list(batches_by_length(lengths, capacity))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= capacity
    descending = [lengths[index] for batch in batches for index in batch]
    assert descending == sorted(lengths, reverse=True)


def test_identity_reproduces_the_encoder_and_pins_the_weights(small: Path, tmp_path: Path) -> None:
    identity = encoder_identity(str(small), {"layer": 2})
    assert identity["revision"].startswith("sha256:") and load_encoder(identity).identity == identity
    assert json.loads(json.dumps(identity)) == identity
    other = random_model(tmp_path, **SMALL | {"num_hidden_layers": 2})
    with pytest.raises(UserError, match="other weights than before"):
        load_encoder(identity | {"model": str(other)})


def test_preset_is_the_encoder_of_the_study() -> None:
    preset = ENCODER_PRESETS["mhubert-25hz-l11"]
    assert encoder_identity("mhubert-25hz-l11", {}) == {
        "name": "hubert",
        "model": "slprl/mhubert-base-25hz",
        "revision": "a319086e1d343190047d02b7f81133fb310c1b90",
        "layer": 11,
        "normalize": False,
        "chunk_seconds": 30.0,
        "padding": 0,
    }
    assert preset.clusters == 500 and len(preset.kmeans_sha256) == 64


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_pickled, r"has no model\.safetensors; pickled weights are not opened"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "header too small"),
        (_config(model_type="wav2vec2"), "type 'wav2vec2', wanted 'hubert'"),
        (_config(conv_pos_batch_norm=False), r"2 missing .* 6 unknown \(encoder.pos_conv_embed.batch_norm"),
        (_config(num_hidden_layers=4), r"missing \(encoder\.layers\.3"),
        (_config(hidden_size=128), "of another size"),
        (_config(hidden_size=65), "cannot be loaded"),
    ],
)
def test_damaged_model_is_refused_in_one_sentence(
    small: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        encoder_of(folder, layer=1)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("no such thing", {"layer": 1}, "no such folder, and not a hub id"),
        ("owner/name", {"layer": 1}, "pin its revision"),
        ("owner/name", {"layer": 1, "revision": "main"}, "'main' is not pinned"),
        ("owner/name", {}, "layer: Field required"),
        ("owner/name", {"layer": 1, "revision": "a" * 40, "bands": 3}, "bands: Extra"),
        ("mel", {"layer": 1}, "layer: Extra"),
    ],
)
def test_unusable_encoder_settings_are_refused(model: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder_identity(model, settings)


def test_missing_layer_device_and_hub_are_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no layer 4; it has the hidden states 0 … 3"):
        encoder_of(small, layer=4)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="this machine has no GPU"):
            encoder_of(small, ComputeOptions(device="cuda"), layer=1)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"owner/none: cannot be loaded .* download the model elsewhere"):
        load_encoder(encoder_identity("owner/none", {"layer": 1, "revision": "a" * 40}))


def synthesize_sounds(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray | SampleFault]:
    for utterance in utterances:
        yield random_sounds([utterance.duration or 0.01], seed=int(utterance.id))[0]


def test_shards_record_the_model_and_bfloat16_changes_few_units(small: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    seconds = [2.0, 0.03, 3.3, 1.2, 6.0]
    write_manifest(
        (Utterance(id=str(i), dataset="d", split="train", duration=s) for i, s in enumerate(seconds)),
        manifest,
    )
    identity = encoder_identity(str(small), {"layer": 2})
    frames = load_encoder(identity).encode(random_sounds([20.0]))[0]
    book = tmp_path / "book.safetensors"
    save_codebook(train_kmeans(frames, KMeansSpec(clusters=50), identity), book)
    source = SpeechSource(manifest, tmp_path, synthesize_sounds)
    coarse = ComputeOptions(device="cpu", precision="bfloat16")
    changed, count = count_changed_units(PrecisionTask(source, book, coarse))
    assert count == sum((round(s * RATE) - 720) // 640 + 1 for s in seconds if s > 0.045)
    assert 0 <= changed < 0.1 * count
    exact = ComputeOptions(device="cpu")
    assert count_changed_units(PrecisionTask(source, book, exact)) == (0, count)

    (task,) = plan_shards(source, book, tmp_path / "out", seconds=60, compute=coarse)
    assert encode_shard(task) == (4, 1)
    meta = open_shard(task.folder).preprocessing
    assert meta["precision"] == "bfloat16" and meta["unit_extractor"] == identity
    assert [meta[f"hubert_{key}"] for key in ("model", "revision", "layer", "normalize")] == [
        str(small),
        identity["revision"],
        2,
        False,
    ]
    encoder = load_encoder(identity | {"layer": 1})
    with pytest.raises(UserError, match="layer: found 1, wanted 2"):
        load_codebook(book).require_encoder(encoder)


@pytest.mark.slow
def test_base_size_in_float32_and_bfloat16(tmp_path: Path) -> None:
    folder = random_model(tmp_path, **GEOMETRY, conv_dim=(512,) * 8)
    waves = random_sounds(np.random.default_rng(2).uniform(2, 15, 8).tolist())
    wanted = [states[11] for states in hidden_states_one_by_one(folder, waves)]
    book = train_kmeans(np.concatenate(wanted), KMeansSpec(clusters=500, iterations=1), {})
    found = encoder_of(folder, layer=11).encode(waves)
    assert max(map(error_of, found, wanted)) < 1e-4
    units, exact = (np.concatenate([book.assign(f) for f in frames]) for frames in (wanted, found))
    assert (units != exact).mean() <= 1e-4
    coarse = encoder_of(folder, ComputeOptions(device="cpu", precision="bfloat16"), layer=11).encode(waves)
    assert (units != np.concatenate([book.assign(f) for f in coarse])).mean() < 0.01


@pytest.mark.slow
def test_commands_from_audio_to_shards(small: Path, tmp_path: Path) -> None:
    import soundfile

    for number, wave in enumerate(random_sounds([4.0, 5.0, 6.0])):
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
    write_manifest(
        (
            Utterance(id=str(i), dataset="d", split="train", audio=f"{i}.wav", duration=4.0 + i)
            for i in range(3)
        ),
        tmp_path / "manifest.jsonl",
    )

    def speechscale(*arguments: str | Path) -> str:
        command = Path(sys.executable).with_name("speechscale")
        done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed, book, out = tmp_path / "manifest.jsonl", tmp_path / "book.safetensors", tmp_path / "out"
    speechscale("kmeans", listed, "--encoder", small, "--layer", "2", "--clusters", "20", "-o", book)
    assert load_codebook(book).encoder == encoder_identity(str(small), {"layer": 2})
    printed = speechscale("encode", listed, "--code-book", book, "-o", out, "--precision", "bfloat16")
    assert "bfloat16 changes" in printed and "of 372 frames" in printed


def test_unknown_field_of_the_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        HubertSpec(model="m", layer=1, chunks=3)  # type: ignore[call-arg]
