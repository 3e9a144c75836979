"""Run records: made from size and recipe, written and read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.runs import CurvePoint, ImportedRecipe, RunRecord, Score, read_record, write_record


@dataclass(frozen=True)
class Size:
    params: int = 1000
    params_total: int = 1500

    def flops(self, tokens: int) -> float:
        return 6.0 * self.params * tokens

    def flops_exact(self, tokens: int) -> float:
        return 7.0 * self.params * tokens


@dataclass(frozen=True)
class BranchRecipe:
    run: str = "small"
    series: str = "speech"
    preset: str = "paper"
    seed: int = 3
    steps: int = 50
    schedule: str = "wsd"
    warmup_steps: int = 5
    tokens_seen: int = 400
    tokens_trained: int = 80


def test_record_of_a_branch() -> None:
    record = RunRecord.of(
        Size(), BranchRecipe(), unique_tokens=200, epoch_tokens=250, status="done", seconds=2.0, loss=2.5
    )
    assert (record.run, record.series, record.preset, record.seed) == ("small", "speech", "paper", 3)
    assert (record.params, record.params_total) == (1000, 1500)
    assert (record.steps, record.tokens, record.unique_tokens, record.epochs) == (50, 400, 200, 1.6)
    assert (record.flops, record.flops_exact) == (2_400_000.0, 2_800_000.0)
    assert record.flops_spent == 480_000.0  # of its own steps
    assert (record.schedule, record.warmup_steps) == ("wsd", 5)
    assert (record.loss, record.loss_se, record.bits_per_second) == (2.5, None, None)


def test_record_of_an_imported_model_has_no_unknown_values() -> None:
    recipe = ImportedRecipe("pythia", "text", tokens_seen=0)
    record = RunRecord.of(Size(), recipe, unique_tokens=0, epoch_tokens=0, status="imported", seconds=0.0)
    assert (record.preset, record.seed, record.steps, record.epochs) == ("unknown", 0, 0, 0.0)
    assert (record.loss, record.flops_spent, record.warmup_steps) == (None, None, None)


def test_outcome_replaces_derived_values() -> None:
    record = RunRecord.of(
        Size(),
        BranchRecipe(),
        unique_tokens=1,
        epoch_tokens=1,
        status="failed",
        seconds=0.0,
        flops_spent=None,
    )
    assert record.flops_spent is None


def test_record_reads_back(tmp_path: Path) -> None:
    record = RunRecord.of(
        Size(),
        BranchRecipe(),
        unique_tokens=200,
        epoch_tokens=250,
        status="done",
        seconds=2.0,
        loss=2.5,
        curve=(CurvePoint(step=25, tokens=200, loss=2.75),),
        scores={"sblimp": Score(accuracy=0.55, low=0.5, high=0.6, items=100)},
    )
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record
    assert record.row()["sblimp"] == 0.55 and record.row()["sblimp_items"] == 100
    assert "sblimp_effective_items" not in record.row()
    clustered = record.scores["sblimp"].model_copy(update={"effective_items": 40.0})
    row = record.model_copy(update={"scores": {"sblimp": clustered}}).row()
    assert row["sblimp_effective_items"] == 40.0


def test_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for text in ("", "[]", '{"run": "a"}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"record\.json: not a run record"):
            read_record(path)
