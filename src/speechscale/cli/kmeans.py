"""`speechscale kmeans`: learns the units of a manifest's speech, or imports a published codebook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from speechscale.cli.options import Device, ManifestRoot


def kmeans(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the training speech.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Codebook to write (safetensors).")],
    root: ManifestRoot = None,
    split: Annotated[str | None, typer.Option(help="Learn from this split only.  [default: all]")] = None,
    clusters: Annotated[int, typer.Option(min=2, help="Number of units.")] = 100,
    utterances: Annotated[int, typer.Option(min=1, help="Size of the seeded sample to learn from.")] = 500,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames to learn from.")] = 1_000_000,
    method: Annotated[
        Literal["minibatch", "lloyd"], typer.Option(help="Growing samples, or all frames in every iteration.")
    ] = "minibatch",
    iterations: Annotated[
        int, typer.Option(min=1, help="Maximum number of iterations over all frames.")
    ] = 50,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Stop when an iteration gains less than this share of the inertia.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    published: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Import this joblib file of a scikit-learn k-means instead of learning."
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 of the imported file.  [default: the preset's]")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="mel, a preset (mhubert-25hz-l11), or a HuBERT model: a folder or hub id.")
    ] = "mel",
    layer: Annotated[
        int | None,
        typer.Option(min=0, help="HuBERT: index of the hidden state; 0 is the input of the first layer."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="HuBERT from the hub: the commit.")] = None,
    normalize: Annotated[
        bool | None, typer.Option(help="HuBERT: normalize each utterance to mean 0 and variance 1.")
    ] = None,
    chunk_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="HuBERT: length of the chunks that are encoded separately; 0: whole utterances.  [default: 30]",
        ),
    ] = None,
    padding: Annotated[
        int | None, typer.Option(min=0, help="HuBERT: samples of silence at both ends.  [default: 0]")
    ] = None,
    device: Device = "auto",
) -> None:
    """Learn units by k-means over frames of a sample of utterances; writes a quality report next to the codebook.

    Examples:

        speechscale kmeans tales/manifest.jsonl --clusters 100 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder mhubert-25hz-l11 --clusters 500 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder models/hubert-base --layer 6 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder mhubert-25hz-l11 --import km500.bin -o code_book.safetensors
    """
    from speechscale.jobs.learn_units import CodebookJob, make_codebook
    from speechscale.units.kmeans import KMeansSpec

    settings = {
        "layer": layer,
        "revision": revision,
        "normalize": normalize,
        "chunk_seconds": chunk_seconds,
        "padding": padding,
    }
    job = CodebookJob(
        manifest=manifest,
        out=out,
        kmeans=KMeansSpec(
            clusters=clusters,
            utterances=utterances,
            frames=frames,
            method=method,
            iterations=iterations,
            tolerance=tolerance,
            seed=seed,
        ),
        root=root,
        split=split,
        encoder=encoder,
        encoder_settings={name: value for name, value in settings.items() if value is not None},
        published=published,
        sha256=sha256,
        device=device,
    )
    typer.echo(f"{out}: {make_codebook(job)}")
