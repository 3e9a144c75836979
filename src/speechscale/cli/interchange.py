"""`speechscale export` and `speechscale import`: runs to and from Hugging Face and the study's release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from speechscale.cli.options import NewFolder, RunFolder


def export(
    run: RunFolder,
    out: NewFolder,
    to: Annotated[
        Literal["hugging-face", "official"],
        typer.Option(help="A LlamaForCausalLM, or the format of the study's release."),
    ] = "hugging-face",
) -> None:
    """Write a model for other programs: config.json and model.safetensors.

    Example:
        speechscale export one-run -o one-llama
    """
    from speechscale.jobs.interchange import export_run

    export_run(run, out, to)
    typer.echo(f"{out}: written as {to}.")


def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder with config.json, which names the format, and safetensors.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run to create.")],
    code_book: Annotated[
        Path | None, typer.Option(help="Code book of the model's units; `speechscale eval run` needs it.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens seen in training, if known.")] = 0,
) -> None:
    """Import a model of another program for scoring: OUT/model.safetensors and OUT/record.json.

    Example:
        speechscale import one-llama --code-book work/nano/units/code_book.safetensors -o imported
    """
    from speechscale.jobs.interchange import import_run

    record = import_run(source, out, codebook=code_book, tokens=tokens)
    typer.echo(f"{out}: {record.params:,} parameters (non-embedding).")
