"""Kokoro through its own package, with a small random network in place of the published weights.

The package is not part of the development environment. Where it is missing, only the error message is tested.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soxr

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import Synthesis
from speechscale.records.seal import sha256_file
from speechscale.speech.synthesis.engines import KOKORO, open_engine

needs_kokoro = pytest.mark.skipif(find_spec("kokoro") is None, reason="the package kokoro is not installed")
SYMBOLS = ";:,.!? abdefhijklmnopqrstuvwxyzˈˌːæɑɔəɛɡɪŋɹʃʊʌʒθð"


def kokoro_settings(
    voice: str = "ff_test", *, seed: int = 0, rate: int = 175, phonemes: bool = True
) -> Synthesis:
    return Synthesis(engine=KOKORO, voice=voice, words_per_minute=rate, seed=seed, phonemes=phonemes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`config.json`, `kokoro-v1_0.pth` and two voices, as they are published but small and random."""
    import torch
    from kokoro import KModel

    folder = tmp_path_factory.mktemp("kokoro")
    plbert = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1}
    istftnet = {
        "upsample_kernel_sizes": [20, 12],
        "upsample_rates": [10, 6],
        "gen_istft_hop_size": 5,
        "gen_istft_n_fft": 20,
        "resblock_dilation_sizes": [[1, 3, 5]],
        "resblock_kernel_sizes": [3],
        "upsample_initial_channel": 512,
    }
    config = {
        "istftnet": istftnet,
        "plbert": {**plbert, "max_position_embeddings": 512},
        "n_token": len(SYMBOLS) + 1,
        "vocab": {sound: number for number, sound in enumerate(SYMBOLS, start=1)},
        "hidden_dim": 512,
        "style_dim": 128,
        "n_mels": 80,
        "n_layer": 1,
        "max_dur": 4,
        "dropout": 0.0,
        "text_encoder_kernel_size": 5,
    }
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = folder / "kokoro-v1_0.pth"
    torch.manual_seed(0)
    torch.save({}, checkpoint)
    model = KModel("random", config=config, model=str(checkpoint))
    torch.save({name: part.state_dict() for name, part in model.named_children()}, checkpoint)
    (folder / "voices").mkdir()
    for voice in ("ff_test", "ff_other"):
        torch.save(torch.randn(510, 1, 256), folder / "voices" / f"{voice}.pt")
    return folder


@pytest.fixture(scope="module")
def kokoro(folder: Path):
    from speechscale.speech.synthesis.kokoro import KokoroEngine

    with KokoroEngine(folder, sha256_file(folder / "kokoro-v1_0.pth")) as engine:
        yield engine


@pytest.mark.skipif(find_spec("kokoro") is not None, reason="the package kokoro is installed")
def test_missing_package_is_reported_with_its_remedy():
    with pytest.raises(UserError, match=r"not installed .*: pip install kokoro\."):
        open_engine(KOKORO)


@needs_kokoro
def test_samples_equal_those_of_the_package_at_16_khz(kokoro, folder):
    import torch
    from kokoro import KModel

    reference = KModel("x", config=str(folder / "config.json"), model=str(folder / "kokoro-v1_0.pth")).eval()
    style = torch.load(folder / "voices" / "ff_test.pt", weights_only=True)
    torch.manual_seed(3)
    at_24_khz = reference("ðə dɔɡ", style[len("ðə dɔɡ") - 1], 1.0).numpy()
    samples = kokoro.synthesize("ðə dɔɡ", kokoro_settings(seed=3))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == round(len(at_24_khz) * 2 / 3)
    assert np.array_equal(samples, soxr.resample(at_24_khz, 24_000, 16_000))


@needs_kokoro
def test_speech_is_a_function_of_text_voice_rate_and_seed(kokoro):
    requests = [
        ("hɛˈloʊ", kokoro_settings()),
        ("hɛˈloʊ", kokoro_settings(seed=1)),
        ("hɛˈloʊ", kokoro_settings("ff_other")),
        ("dɔɡ", kokoro_settings()),
    ]
    requests.append(("hɛˈloʊ", kokoro_settings(rate=90)))
    forward = [samples.tobytes() for samples in kokoro.synthesize_all(requests)]
    backward = [samples.tobytes() for samples in kokoro.synthesize_all(requests[::-1])][::-1]
    assert forward == backward
    assert len(set(forward)) == len(forward)
    assert len(forward[-1]) > len(forward[0])  # slower is longer


@needs_kokoro
@pytest.mark.parametrize(
    ("text", "voice", "why"),
    [
        ("", "ff_test", "inaudible: nothing audible"),
        (" ...", "ff_test", "inaudible: nothing audible"),
        ("日本", "ff_test", "inaudible: nothing audible"),
        ("a" * 510, "ff_test", "too long: 510 phonemes"),
        ("dɔɡ", "ff_nobody", "not spoken: Kokoro has no voice 'ff_nobody'"),
        ("dɔɡ", "../config", "not spoken: Kokoro has no voice"),
    ],
)
def test_unspeakable_text_or_voice_is_a_fault(kokoro, text, voice, why):
    fault, after = kokoro.synthesize_all([(text, kokoro_settings(voice)), ("dɔɡ", kokoro_settings())])
    assert isinstance(fault, SampleFault)
    assert why in str(fault)
    assert len(after) > 0


@needs_kokoro
def test_package_phonemizes_spelling(kokoro):
    """French, whose phonemes need no model to be fetched."""
    bonjour, other = kokoro.synthesize_all(
        [("Bonjour.", kokoro_settings(phonemes=False)), ("Au revoir.", kokoro_settings(phonemes=False))]
    )
    assert len(bonjour) > 1000
    assert not np.array_equal(bonjour, other)


@needs_kokoro
def test_checkpoint_with_another_hash_is_refused(folder):
    from speechscale.speech.synthesis.kokoro import KokoroEngine

    with pytest.raises(UserError, match=r"kokoro-v1_0\.pth: its SHA-256 is .*, wanted 496dba11"):
        KokoroEngine(folder)


@needs_kokoro
def test_folder_without_the_files_is_refused(tmp_path):
    from speechscale.speech.synthesis.kokoro import KokoroEngine

    with pytest.raises(UserError, match=r"holds no kokoro-v1_0\.pth; SPEECHSCALE_KOKORO"):
        KokoroEngine(tmp_path)
