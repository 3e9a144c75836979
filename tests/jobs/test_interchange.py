"""Export of runs, and import of foreign models as runs that are scored like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from mel_model import (
    SHAPE,
    write_codebook,
    write_foreign_model,
    write_labelled_shards,
    write_other_codebook,
)

from speechscale.errors import UserError
from speechscale.jobs.evaluate import score_run
from speechscale.jobs.interchange import export_run, import_run
from speechscale.records.runs import read_record
from speechscale.records.seal import sha256_file
from speechscale.train.checkpoint import load_model


@pytest.fixture
def codebook(tmp_path: Path) -> Path:
    return write_codebook(tmp_path / "book.safetensors")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return write_foreign_model(tmp_path / "foreign")


@pytest.fixture
def shards(tmp_path: Path, codebook: Path) -> Path:
    return write_labelled_shards(tmp_path / "shards", codebook)


def test_imported_model_is_scored_like_any_run(
    foreign: Path, codebook: Path, shards: Path, tmp_path: Path
) -> None:
    record = import_run(foreign, tmp_path / "run", codebook=codebook, tokens=1_000)
    assert record == read_record(tmp_path / "run" / "record.json")
    assert (record.status, record.params, record.flops) == ("imported", SHAPE.params, 6e3 * SHAPE.params)
    scored = score_run(record, tmp_path / "run", shards)
    assert scored.scores["t"].items == 20
    export_run(tmp_path / "run", tmp_path / "llama", "hugging-face")
    import_run(tmp_path / "llama", tmp_path / "again", codebook=None, tokens=0)  # the config names its units
    again = score_run(record, tmp_path / "again", shards)
    assert again.scores == scored.scores
    assert load_model(tmp_path / "again" / "model.safetensors")[1].kmeans == sha256_file(codebook)


def test_scoring_needs_a_codebook(foreign: Path, shards: Path, tmp_path: Path) -> None:
    record = import_run(foreign, tmp_path / "run", codebook=None, tokens=0)
    with pytest.raises(UserError, match=r"does not record the codebook of its units.*--code-book"):
        score_run(record, tmp_path / "run", shards)


def test_invalid_imports_are_refused(foreign: Path, codebook: Path, tmp_path: Path) -> None:
    seven = write_other_codebook(tmp_path / "seven.safetensors", units=7)
    with pytest.raises(UserError, match="has 7 units; the model's vocabulary of 12 wants 10"):
        import_run(foreign, tmp_path / "run", codebook=seven, tokens=0)
    assert not (tmp_path / "run").exists()
    import_run(foreign, tmp_path / "run", codebook=codebook, tokens=0)
    with pytest.raises(UserError, match="exists already"):
        import_run(foreign, tmp_path / "run", codebook=codebook, tokens=0)
    export_run(tmp_path / "run", tmp_path / "out", "official")
    other = write_other_codebook(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not the codebook that the model names"):
        import_run(tmp_path / "out", tmp_path / "run2", codebook=other, tokens=0)
