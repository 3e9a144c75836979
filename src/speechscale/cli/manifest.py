"""`speechscale manifest`: the manifest of a corpus on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import CorpusRoot


def manifest(
    path: Annotated[Path, typer.Argument(help="The corpus: a folder, or the file that lists it.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Manifest to write.  [default: manifest.jsonl in or next to PATH]"),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="folder, librispeech, fairseq, jsonl, lhotse or parquet.  [default: by the path]"),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the corpus, where its lines state none.  [default: that of PATH]"),
    ] = None,
    root: CorpusRoot = None,
    split: Annotated[
        str | None,
        typer.Option(help="Put every utterance into this split.  [default: official splits, else a draw]"),
    ] = None,
    test_share: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Share of the hours drawn for the test where no split is official."
        ),
    ] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw of the test set.")] = 0,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", help="All of it is synthetic speech: mark it, and keep it out of `test`."
        ),
    ] = False,
    trust_durations: Annotated[
        bool,
        typer.Option(
            "--trust-durations",
            help="Take stated durations without comparing them with the header of each file; faults of files are "
            "then found by encode. (fairseq lists state samples, so headers are read all the same.)",
        ),
    ] = False,
) -> None:
    """List every utterance of a corpus with its duration, one JSON object per line.

    What cannot be used (a missing or broken file, a segment beyond the end, a repeated id) is left out, and listed with
    its reason in OUT with the ending .skips.jsonl. A corpus without official splits gets a test set of whole speakers
    and books where they are known, else of whole files.

    Layouts are a folder of wav, flac, ogg, mp3 or opus files; LibriSpeech; fairseq's .tsv; JSON Lines in the
    fields of the study's manifest; Lhotse's recordings or cuts (.jsonl.gz); Parquet files with the audio inside.

    Examples:

        speechscale manifest recordings --dataset mine

        speechscale manifest LibriSpeech -o librispeech.jsonl

        speechscale manifest tedlium_cuts_train.jsonl.gz --root /data/tedlium -o tedlium.jsonl

        speechscale manifest sTinyStories --layout parquet --synthetic -o stinystories.jsonl
    """
    from speechscale.jobs.list_corpus import SplitOptions, list_corpus

    splits = SplitOptions(seed=seed, test_share=test_share, split=split, synthetic=synthetic)
    report = list_corpus(
        path, out, splits, layout=layout, dataset=dataset, root=root, trust_durations=trust_durations
    )
    typer.echo(report)
