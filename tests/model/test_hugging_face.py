"""Foreign models: exactness of shared prefixes, and contexts that the configuration does not contain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
)

from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import Pair
from speechscale.model.hugging_face import HuggingFaceModel
from speechscale.records.scores import SpecialTokens

SIZE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 64, "initializer_range": 0.3}
MIXED = {"num_key_value_heads": 2, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
NEO = {"vocab_size": 40, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "initializer_range": 0.3}


@pytest.mark.parametrize(
    ("config", "supports_shared_prefix", "context"),
    [
        (GPTNeoXConfig(**WIDE, max_position_embeddings=64), True, 64),
        (LlamaConfig(**WIDE, max_position_embeddings=64), True, 64),
        (GPT2Config(**SIZE, n_positions=64, initializer_range=0.3), True, 64),
        # The following models do not support two suffixes in one row.
        (GPTNeoConfig(**NEO, attention_types=[[["global", "local"], 1]], max_position_embeddings=512), False, 512),
        (FalconConfig(**SIZE, alibi=True), False, 2048),
        (JambaConfig(**WIDE, **MIXED), False, 262144),
        (BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=2), False, 2048),
        (MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2), False, 2048),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)  # fmt: skip
def test_prefixes_are_shared_only_where_that_is_exact(
    config: PretrainedConfig, supports_shared_prefix: bool, context: int
) -> None:
    """A pair with a prompt longer than the attention window of GPT-Neo, against each member alone."""
    torch.manual_seed(0)
    model = HuggingFaceModel(AutoModelForCausalLM.from_config(config))
    assert (model.supports_shared_prefix, model.context) == (supports_shared_prefix, context)
    rng = np.random.default_rng(0)
    prompt, *endings = (rng.integers(5, 40, length) for length in (min(280, context - 20), 16, 12))
    correct, wrong = (np.concatenate([prompt, ending]) for ending in endings)
    table = score_pairs(
        model,
        [Pair("t", "a", "a", correct, wrong)],
        SpecialTokens(before_first=3, closing=4),
        dtype=torch.float32,
    )
    for name, units in (("correct", correct), ("wrong", wrong)):
        tokens = torch.tensor([3, *units])
        with torch.no_grad():
            logits = model.module(input_ids=tokens[None]).logits[0, :-1]
        alone = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="sum").item()
        assert table[f"nll_{name}"][0] == pytest.approx(alone, rel=1e-4)
