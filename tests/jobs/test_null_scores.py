"""Scores of untrained models beside those of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from unit_models import export_release, write_labelled_shards

from speechscale.cli.format_scores import evaluation_lines
from speechscale.errors import UserError
from speechscale.jobs.evaluate import EvaluationReport, EvaluationRequest, run_evaluation
from speechscale.model.hugging_face import HuggingFaceModel
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.model.untrained import untrained_like
from speechscale.records.null_scores import NULL_FILE, read_null_scores


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("shards"))


def score(folder: Path, shards: Path, null: int | None, out: str = "out") -> EvaluationReport:
    request = EvaluationRequest(
        model=str(folder / "slm"), benchmarks=[shards], out=folder / out, switches={}, null=null
    )
    return run_evaluation(request)


def test_bands_are_written_and_printed_beside_every_score(shards: Path, tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    report = score(tmp_path, shards, null=3)
    assert report.null and report.null == read_null_scores(tmp_path / "out" / NULL_FILE)
    assert report.null.models == 3 and report.null.benchmarks == report.evaluation.file.benchmarks
    for each in report.evaluation.file.scores:
        band = report.null.band_of(each)
        assert band and 0 <= band.low <= band.mean <= band.high <= 1
    lines = list(evaluation_lines(report.evaluation, report.null))
    assert sum("untrained [" in line for line in lines) == len(report.evaluation.file.scores)
    assert "within what untrained models score" not in "".join(evaluation_lines(report.evaluation))


def test_same_call_gives_the_same_bands_and_other_numbers_extend_the_same_models(
    shards: Path, tmp_path: Path
) -> None:
    export_release(tmp_path / "slm")
    first, again = (score(tmp_path, shards, 2, out).null for out in ("one", "two"))
    assert first and again and first.bands == again.bands
    longer = score(tmp_path, shards, 3, "three").null
    assert longer and longer.bands != first.bands


def test_score_inside_its_band_is_said_to_be(shards: Path, tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    report = score(tmp_path, shards, null=2)
    assert report.null
    wide = report.null.model_copy(
        update={"bands": tuple(b.model_copy(update={"low": 0.0, "high": 1.0}) for b in report.null.bands)}
    )
    narrow = report.null.model_copy(
        update={"bands": tuple(b.model_copy(update={"low": 2.0, "high": 2.0}) for b in report.null.bands)}
    )
    words = "within what untrained models score"
    assert words in "".join(evaluation_lines(report.evaluation, wide))
    assert words not in "".join(evaluation_lines(report.evaluation, narrow))


@pytest.mark.parametrize("count", [1, 0, -3])
def test_fewer_than_two_untrained_models_are_refused_before_scoring(
    shards: Path, tmp_path: Path, count: int
) -> None:
    export_release(tmp_path / "slm")
    with pytest.raises(UserError, match=f"--null {count}: the spread of scores takes 2 untrained models"):
        score(tmp_path, shards, null=count)
    assert not (tmp_path / "out").exists()


def test_untrained_models_are_those_that_training_begins_with() -> None:
    shape = ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
    torch.manual_seed(7)
    wanted = Transformer(shape, "modern").state_dict()
    state = torch.get_rng_state()
    found = untrained_like(Transformer(shape), "modern", 7)
    assert isinstance(found, Transformer)
    assert all(torch.equal(found.state_dict()[name], value) for name, value in wanted.items())
    # Only the construction of the template above has advanced the global generator.
    torch.set_rng_state(state)
    template = Transformer(shape)
    before = torch.get_rng_state()
    untrained_like(template, "modern", 7)
    assert torch.equal(torch.get_rng_state(), before)


def test_models_of_transformers_are_initialised_by_their_library() -> None:
    config = GPTNeoXConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = HuggingFaceModel(GPTNeoXForCausalLM(config))
    one, same, other = (untrained_like(model, "paper", seed) for seed in (1, 1, 2))
    tokens = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        assert torch.equal(one(tokens), same(tokens))
        assert not torch.equal(one(tokens), other(tokens))
