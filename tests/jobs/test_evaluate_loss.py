"""Test losses per corpus, against single forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from unit_models import EOS, export_release, units_of, write_labelled_shards

from speechscale.jobs.evaluate_loss import evaluate_corpus_losses


def test_losses_are_weighted_by_tokens(tmp_path: Path) -> None:
    shards = write_labelled_shards(tmp_path / "shards")
    model = export_release(tmp_path / "slm")
    found, _ = evaluate_corpus_losses(str(tmp_path / "slm"), shards, precision="float32")
    nats = {"a": 0.0, "b": 0.0}
    count = dict.fromkeys(nats, 0)
    for name, units in units_of(shards).items():
        corpus = "ab"[int(name.split("-")[0]) % 2]
        with torch.no_grad():
            logits = model(torch.tensor([[EOS, *units]]))[0]
        nats[corpus] += torch.nn.functional.cross_entropy(
            logits, torch.tensor([*units, EOS]), reduction="sum"
        ).item()
        count[corpus] += len(units) + 1
    for corpus in "ab":
        assert found[corpus].loss == pytest.approx(nats[corpus] / count[corpus], rel=1e-4)
        assert found[corpus].tokens == count[corpus]
    assert found[""].loss == pytest.approx(sum(nats.values()) / sum(count.values()), rel=1e-4)
    assert found[""].bits_per_second == pytest.approx(sum(nats.values()) / np.log(2) / (2 * 47), rel=1e-4)
