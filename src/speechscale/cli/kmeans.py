"""`speechscale kmeans`: a manifest in, a code book out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def kmeans(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the training speech.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Code book to write (safetensors).")],
    root: Annotated[
        Path | None, typer.Option(help="What audio paths are relative to.  [default: the manifest's folder]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Learn from this split only.  [default: all]")] = None,
    clusters: Annotated[int, typer.Option(min=2, help="Units.")] = 100,
    utterances: Annotated[int, typer.Option(min=1, help="Size of the seeded sample to learn from.")] = 500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Learn the units: k-means over log-mel frames of a sample of utterances.

    Example:

        speechscale kmeans tales/manifest.jsonl --clusters 100 -o code_book.safetensors
    """
    from speechscale.speech.hearing import hear
    from speechscale.study.units import learn_code_book
    from speechscale.units.encode import CodeBookTask
    from speechscale.units.kmeans import KMeansSpec
    from speechscale.units.mel import MelEncoder, MelSpec

    spec = KMeansSpec(clusters=clusters, utterances=utterances, seed=seed)
    encoder = MelEncoder(MelSpec()).identity
    learnt = learn_code_book(
        CodeBookTask(manifest, root or manifest.parent, encoder, spec, out, hear, split=split)
    )
    typer.echo(f"{out}: {learnt}")
