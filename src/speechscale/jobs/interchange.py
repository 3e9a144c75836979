"""Export of runs to other programs, and import of foreign models as runs that can be scored."""

from __future__ import annotations

from pathlib import Path

from speechscale.errors import UserError
from speechscale.model.checkpoint_configs import CheckpointFormat
from speechscale.model.interchange import ModelUnits, export_model, import_model
from speechscale.model.shape import ModelShape
from speechscale.records.runs import RECORD, ImportedRecipe, RunRecord, write_record
from speechscale.records.training_provenance import TrainingProvenance
from speechscale.train.checkpoint import MODEL, load_model, save_model
from speechscale.units.codebook import codebook_identity, load_codebook


def export_run(run: Path, out: Path, to: CheckpointFormat) -> None:
    """Write the model of a run to a new folder, in the format of another program.

    Raises:
        UserError: no model there, or the folder exists.
    """
    model, provenance = load_model(run / MODEL)
    export_model(model, out, to, ModelUnits(provenance.encoder, provenance.kmeans))


def import_run(source: Path, out: Path, *, codebook: Path | None, tokens: int) -> RunRecord:
    """Write a foreign model as a run: `model.safetensors` and `record.json`.

    Args:
        source: folder of the model.
        out: folder of the run.
        codebook: the codebook of the model's units; scoring needs it, unless the config of the model names it.
        tokens: tokens seen in training; 0 where unknown.

    Returns:
        The record of the run.

    Raises:
        UserError: `out` has a model already, `source` is of no known format, or the codebook is not the model's.
    """
    if (out / MODEL).exists():
        raise UserError(f"{out / MODEL}: exists already; choose another folder.")
    model, units = import_model(source)
    if codebook:
        units = _units_of(codebook, model.shape, units.kmeans)
    record = RunRecord.of(
        model.shape,
        ImportedRecipe(out.name, "imported", tokens),
        unique_tokens=0,
        epoch_tokens=0,
        status="imported",
        seconds=0.0,
        note=f"imported from {source}",
    )
    provenance = TrainingProvenance(imported_from=str(source), encoder=units.encoder, kmeans=units.kmeans)
    save_model(model, out / MODEL, provenance, record)
    write_record(record, out / RECORD)
    return record


def _units_of(codebook: Path, shape: ModelShape, named_sha256: str | None) -> ModelUnits:
    book, sha256 = load_codebook(codebook), codebook_identity(codebook)["sha256"]
    if len(book.centroids) != shape.eos:
        raise UserError(
            f"{codebook}: has {len(book.centroids)} units; the model's vocabulary of {shape.vocabulary} wants "
            f"{shape.eos} (EOS and padding come on top)."
        )
    if named_sha256 not in (None, sha256):
        raise UserError(f"{codebook}: is not the codebook that the model names ({named_sha256}).")
    return ModelUnits(book.encoder, sha256)
