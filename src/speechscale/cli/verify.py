"""`speechscale verify`: everything that is wrong with shards, manifests, code books and sealed folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    paths: Annotated[
        list[Path], typer.Argument(help="Manifests, code books, and folders: what is in them is found.")
    ],
) -> None:
    """Read every byte and say what is wrong, one line a problem; status 1 if there is any.

    Example:

        speechscale verify tales/manifest.jsonl code_book.safetensors shards
    """
    from speechscale.jobs.verify import check_all

    checked, wrong = 0, 0
    for problems in check_all(paths):
        checked += 1
        for problem in problems:
            wrong += 1
            typer.echo(problem)
    typer.echo(f"{checked} checked, {wrong} problems.")
    if wrong:
        raise typer.Exit(1)
