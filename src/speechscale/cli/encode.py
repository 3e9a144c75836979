"""`speechscale encode`: a manifest and a code book in, shards of units out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def encode(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the speech to encode.")],
    code_book: Annotated[Path, typer.Option(help="Code book from `speechscale kmeans`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of shards; shards already there are kept.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="What audio paths are relative to.  [default: the manifest's folder]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.  [default: all]")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Audio per shard, the unit of work.")] = 60.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a core]")] = None,
) -> None:
    """Turn speech into collapsed units, packed in sealed shards. Stop it at any time and run it again to go on.

    Example:

        speechscale encode tales/manifest.jsonl --code-book code_book.safetensors -o shards
    """
    from speechscale.speech.hearing import hear
    from speechscale.study.engine import default_workers
    from speechscale.study.units import encode_all
    from speechscale.units.encode import plan_shards

    tasks = plan_shards(
        manifest, root or manifest.parent, code_book, out, hear, seconds=60 * minutes, split=split
    )
    told = encode_all(tasks, workers or default_workers())
    typer.echo(f"{out}: {told}")
