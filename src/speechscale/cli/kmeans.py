"""`speechscale kmeans`: a manifest in, a code book out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    frames: Annotated[
        int, typer.Option(min=1, help="Frames of the sample to learn from, at most.")
    ] = 1_000_000,
    method: Annotated[
        Literal["minibatch", "lloyd"], typer.Option(help="Growing samples, or all frames each time.")
    ] = "minibatch",
    iterations: Annotated[int, typer.Option(min=1, help="Over all frames, at most.")] = 50,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Stop when an iteration gains less than this share of the inertia.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    published: Annotated[
        Path | None,
        typer.Option("--import", help="Learn nothing: take this joblib file of a scikit-learn k-means."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="What the imported file must be.  [default: the preset's]")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="mel, a preset (mhubert-25hz-l11), or a HuBERT model: a folder or hub id.")
    ] = "mel",
    layer: Annotated[
        int | None, typer.Option(min=0, help="HuBERT: hidden state to take; 0 enters the first layer.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="HuBERT from the hub: the commit.")] = None,
    normalize: Annotated[
        bool | None, typer.Option(help="HuBERT: each utterance to mean 0, variance 1.")
    ] = None,
    chunk_seconds: Annotated[
        float | None, typer.Option(min=0, help="HuBERT: heard at once; 0: all.  [default: 30]")
    ] = None,
    padding: Annotated[
        int | None, typer.Option(min=0, help="HuBERT: samples of silence at both ends.  [default: 0]")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where a neural encoder computes.")
    ] = "auto",
) -> None:
    """Learn the units: k-means over frames of a sample of utterances, and a report of how good they are beside it.

    Examples:

        speechscale kmeans tales/manifest.jsonl --clusters 100 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder mhubert-25hz-l11 --clusters 500 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder models/hubert-base --layer 6 -o code_book.safetensors

        speechscale kmeans libri/manifest.jsonl --encoder mhubert-25hz-l11 --import km500.bin -o code_book.safetensors
    """
    from speechscale.compute import ComputeOptions
    from speechscale.jobs.encode import import_code_book, learn_code_book
    from speechscale.speech.synthesis.alignments import phone_alignments
    from speechscale.speech.waveforms import load_waveforms
    from speechscale.units.encoders import choose_encoder
    from speechscale.units.hubert import PRESETS
    from speechscale.units.kmeans import KMeansSpec
    from speechscale.units.learn import CodeBookTask

    spec = KMeansSpec(
        clusters=clusters,
        utterances=utterances,
        frames=frames,
        method=method,
        iterations=iterations,
        tolerance=tolerance,
        seed=seed,
    )
    given = {
        "layer": layer,
        "revision": revision,
        "normalize": normalize,
        "chunk_seconds": chunk_seconds,
        "padding": padding,
    }
    chosen = choose_encoder(encoder, {key: value for key, value in given.items() if value is not None})
    task = CodeBookTask(
        manifest,
        root or manifest.parent,
        chosen,
        spec,
        out,
        load_waveforms,
        split=split,
        computing=ComputeOptions(device=device),
        timings=phone_alignments,
    )
    if published:
        known = PRESETS[encoder].kmeans_sha256 if encoder in PRESETS else None
        made = import_code_book(task, published, sha256 or known)
    else:
        made = learn_code_book(task)
    typer.echo(f"{out}: {made}")
