"""Test loss and its standard error, against computations by hand; and test speech that is not held out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_shards import EOS, PREPROCESSING, VOCABULARY, counter_samples

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer
from speechscale.records.shards import Shard, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.train.checkpoint import MODEL, load_model
from speechscale.train.loop import train_run
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import Trainer
from speechscale.train.validate import evaluate_loss, evaluate_loss_by_corpus


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def negative_log_likelihood(model: Transformer, units: np.ndarray) -> float:
    """Nats of one utterance."""
    tokens = torch.tensor([EOS, *units.tolist()])
    with torch.no_grad():
        log_p = model(tokens[None, :-1])[0].log_softmax(-1)
    return -log_p[torch.arange(len(units)), tokens[1:]].sum().item()


def test_loss_is_a_mean_over_all_tokens(spec: RunSpec, shards: list[Shard], test_shards: list[Shard]) -> None:
    model = Trainer(spec, VOCABULARY, Windows(shards, spec.context)).model
    samples = list(test_shards[0].samples())
    nats = sum(negative_log_likelihood(model, units) for units in samples)
    tokens = sum(len(units) for units in samples)
    seconds = sum(row["seconds"] for row in test_shards[0].rows())
    estimate = evaluate_loss(model, test_shards, torch.float32)
    assert estimate.tokens == tokens
    assert estimate.loss == pytest.approx(nats / tokens, rel=1e-5)
    assert estimate.bits_per_second == pytest.approx(nats / math.log(2) / seconds, rel=1e-5)


def test_standard_error_is_that_of_resampled_utterances(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    train_run(spec, shards, test_shards, tmp_path / "run")
    model, _ = load_model(tmp_path / "run" / MODEL)
    estimate = evaluate_loss(model, test_shards, torch.float32)
    samples = list(test_shards[0].samples())
    nll = np.array([negative_log_likelihood(model, units) for units in samples])
    lengths = np.array([len(units) for units in samples])
    draws = np.random.default_rng(0).integers(0, len(nll), (4000, len(nll)))
    spread = (nll[draws].sum(axis=1) / lengths[draws].sum(axis=1)).std()
    assert estimate.standard_error == pytest.approx(spread, rel=0.1)


def test_loss_by_corpus_agrees_with_that_of_all(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard]
) -> None:
    model = Trainer(spec, VOCABULARY, Windows(shards, spec.context)).model
    by_corpus = evaluate_loss_by_corpus(
        model, [*shards, *test_shards], torch.float32, bos=EOS, to_token_ids=lambda units: units
    )
    assert set(by_corpus) == {"", "unnamed"} and by_corpus[""] == by_corpus["unnamed"]
    every = evaluate_loss(model, [*shards, *test_shards], torch.float32)
    assert by_corpus[""].tokens == every.tokens
    assert by_corpus[""].loss == pytest.approx(every.loss, rel=1e-6)
    assert by_corpus[""].standard_error == pytest.approx(every.standard_error, rel=1e-5)


def test_test_speech_that_is_trained_on_is_refused(
    spec: RunSpec, shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"the same speech is in .*train/shard-0, so it is not held out"):
        train_run(spec, shards, shards, tmp_path / "run")
    held_out = counter_samples(np.random.default_rng(3), "b")[:5]
    trained_on = counter_samples(np.random.default_rng(0), "a")[:2]
    write_shard(tmp_path / "some" / "shard-0", held_out + trained_on, [], PREPROCESSING)
    with pytest.raises(UserError, match="2 of its utterances are test speech too, the first 'a0'"):
        train_run(spec, shards, open_shards(tmp_path / "some"), tmp_path / "run")
