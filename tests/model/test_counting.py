"""Parameter counts of foreign models against published numbers, and facts about Pythia revisions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

from speechscale.model.counting import count_parameters
from speechscale.model.pythia import checkpoint_warning, training_steps, unique_corpus_tokens
from speechscale.model.shape import ModelShape

# Biderman et al. 2023, table 1; vocabulary of the checkpoints, layers, dim, heads: non-embedding parameters
PYTHIA = {
    "70m": (50304, 6, 512, 8, 18_915_328),
    "160m": (50304, 12, 768, 12, 85_056_000),
    "410m": (50304, 24, 1024, 16, 302_311_424),
    "1b": (50304, 16, 2048, 8, 805_736_448),
    "1.4b": (50304, 24, 2048, 16, 1_208_602_624),
    "2.8b": (50304, 32, 2560, 32, 2_517_652_480),
    "6.9b": (50432, 32, 4096, 32, 6_444_163_072),
    "12b": (50688, 36, 5120, 40, 11_327_027_200),
}


@pytest.mark.parametrize("name", PYTHIA)
def test_pythia_models_have_the_published_sizes(name: str) -> None:
    vocabulary, layers, dim, heads, published = PYTHIA[name]
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        hidden_size=dim,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        max_position_embeddings=2048,
    )
    with torch.device("meta"):
        size = count_parameters(AutoModelForCausalLM.from_config(config), 2048)
    assert size.params == published
    assert size.params_total == published + 2 * vocabulary * dim


def test_tied_parameters_count_once_and_positions_are_embeddings() -> None:
    with torch.device("meta"):
        size = count_parameters(
            AutoModelForCausalLM.from_config(
                GPT2Config(vocab_size=100, n_positions=32, n_embd=16, n_layer=2, n_head=2)
            ),
            32,
        )
    layer = 4 * 16 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    assert size.params == 2 * layer + 2 * 16
    assert size.params_total == size.params + 100 * 16 + 32 * 16


def test_counts_agree_with_model_shape() -> None:
    shape = ModelShape(layers=3, dim=32, heads=2, vocabulary=102, context=64, hidden_multiple=16)
    config = LlamaConfig(
        vocab_size=102,
        num_hidden_layers=3,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=shape.hidden,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        size = count_parameters(AutoModelForCausalLM.from_config(config), shape.context)
    assert (size.params, size.params_total) == (shape.params, shape.params_total)
    assert size.flops(1000) == shape.flops(1000)
    assert size.flops_exact(1000) == shape.flops_exact(1000)


@pytest.mark.parametrize(
    ("model", "revision", "steps"),
    [
        ("EleutherAI/pythia-70m", None, 143_000),
        ("EleutherAI/pythia-70m", "main", 143_000),
        ("EleutherAI/pythia-1.4b-deduped", "step512", 512),
        ("eleutherai/pythia-14m", "step0", 0),
        ("EleutherAI/pythia-160m-seed3", "step2000", 2000),
        ("EleutherAI/pythia-70m", "step143001", None),  # never trained
        ("EleutherAI/pythia-70m", "a39f36b100fe8a5377810d56c3f4789b9c53ac42", None),  # a commit says no step
        ("EleutherAI/pythia-160m-v0", "step1000", None),  # the first release had another batch
        ("somebody/pythia-70m", "step1000", None),
        ("EleutherAI/gpt-neo-125m", "main", None),
    ],
)
def test_training_steps_of_a_revision(model: str, revision: str | None, steps: int | None) -> None:
    assert training_steps(model, revision) == steps


def test_only_deduplicated_models_repeat_their_corpus() -> None:
    assert unique_corpus_tokens("EleutherAI/pythia-70m-deduped") == 207_000_000_000
    assert unique_corpus_tokens("EleutherAI/pythia-70m") is None


def test_revisions_with_reported_faults_give_a_warning() -> None:
    for step in (0, 512, 53_000, 65_000, 140_000):
        assert "weights of the last step" in (
            checkpoint_warning("EleutherAI/pythia-2.8b", f"step{step}") or ""
        )
    assert checkpoint_warning("EleutherAI/pythia-12b", "step50000")
    for model, revision in (
        ("2.8b", "step66000"),
        ("2.8b", "main"),
        ("2.8b-deduped", "step1000"),
        ("1b", "step0"),
    ):
        assert checkpoint_warning(f"EleutherAI/pythia-{model}", revision) is None
