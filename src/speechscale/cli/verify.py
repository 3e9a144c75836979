"""`speechscale verify`: a full check of shards, manifests, codebooks and sealed folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    paths: Annotated[
        list[Path], typer.Argument(help="Manifests, codebooks, and folders of shards and sealed folders.")
    ],
) -> None:
    """Read every byte and report problems, one per line; status 1 if there is any.

    Artefacts that other code made are counted. That is no problem.

    Example:
        speechscale verify tales/manifest.jsonl code_book.safetensors shards
    """
    from speechscale.jobs.verify import describe_code, verify_all

    artefacts, problems = [], 0
    for artefact in verify_all(paths):
        artefacts.append(artefact.code)
        for problem in artefact.problems:
            problems += 1
            typer.echo(problem)
    for sentence in describe_code(artefacts):
        typer.echo(sentence)
    typer.echo(f"{len(artefacts)} checked, {problems} problems.")
    if problems:
        raise typer.Exit(1)
