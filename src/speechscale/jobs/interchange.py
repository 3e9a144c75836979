"""Runs to and from other programs' folders: the model, which units it speaks, and a record to score it under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechscale.errors import UserError
from speechscale.jobs.train_run import RECORD
from speechscale.model.interchange import Format, export_model, import_model
from speechscale.model.shape import ModelShape
from speechscale.records.runs import RunRecord, write_record
from speechscale.train.checkpoint import MODEL, load_model, save_model
from speechscale.units.kmeans import code_book_identity, load_code_book


def export_run(run: Path, out: Path, to: Format) -> None:
    """The model of a run as a folder of another program."""
    model, provenance = load_model(run / MODEL)
    export_model(model, out, to, {key: provenance.get(key) for key in ("encoder", "kmeans")})


def import_run(source: Path, out: Path, *, code_book: Path | None, tokens: int) -> RunRecord:
    """A foreign model as a run of ours: `model.safetensors` and `record.json` in `out`.

    Args:
        code_book: the one whose units the model speaks; needed for scoring unless the folder itself says it.
        tokens: seen in training; 0 where nobody knows.

    Raises:
        UserError: `out` holds a model already, the folder is none of ours, or the code book is not the model's.
    """
    if (out / MODEL).exists():
        raise UserError(f"{out / MODEL}: exists already; choose another folder.")
    model, said = import_model(source)
    units = {"encoder": said.get("encoder"), "kmeans": said.get("kmeans")}
    if code_book:
        units = _units_of(code_book, model.shape, said.get("kmeans"))
    shape = model.shape
    record = RunRecord(
        run=out.name,
        series="imported",
        status="imported",
        preset="unknown",
        seed=0,
        params=shape.params,
        params_total=shape.params_total,
        tokens=tokens,
        unique_tokens=0,
        epochs=0.0,
        steps=0,
        flops=shape.flops(tokens),
        flops_exact=shape.flops_exact(tokens),
        loss=None,
        loss_se=None,
        bits_per_second=None,
        seconds=0.0,
        note=f"imported from {source}",
    )
    save_model(model, out / MODEL, {"imported_from": str(source), **units}, record)
    return write_record(record, out / RECORD)


def _units_of(path: Path, shape: ModelShape, said: str | None) -> dict[str, Any]:
    book, sha256 = load_code_book(path), code_book_identity(path)["sha256"]
    if len(book.centroids) != shape.eos:
        raise UserError(
            f"{path}: has {len(book.centroids)} units; the model's vocabulary of {shape.vocabulary} wants {shape.eos} "
            "(EOS and padding come on top)."
        )
    if said not in (None, sha256):
        raise UserError(f"{path}: is not the code book that the model names ({said}).")
    return {"encoder": book.encoder, "kmeans": sha256}
