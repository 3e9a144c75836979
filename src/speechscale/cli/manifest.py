"""`speechscale manifest`: a corpus on disk in, its manifest out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def manifest(
    path: Annotated[Path, typer.Argument(help="The corpus: a folder, or the file that lists it.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Manifest to write.  [default: manifest.jsonl in or beside PATH]"),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="folder, librispeech, fairseq, jsonl, lhotse or parquet.  [default: by the path]"),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the corpus, where its lines do not say.  [default: the path's]"),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="What audio paths are relative to and may not leave.  [default: PATH's folder]"),
    ] = None,
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
    seed: Annotated[int, typer.Option(min=0, help="Draws the test set.")] = 0,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="All of it is synthetic speech: marked, and never in `test`.")
    ] = False,
    trust_durations: Annotated[
        bool,
        typer.Option(
            "--trust-durations",
            help="Take the durations that a list states without comparing them with the header of each file; faults "
            "of files are then found when they are encoded. (fairseq lists state samples, so headers are read.)",
        ),
    ] = False,
) -> None:
    """List every utterance of a corpus with its duration, one JSON line each.

    What cannot be used (a missing or broken file, a segment beyond the end, an id that came before) is left out and
    listed in OUT with the ending .skips.jsonl, with its reason. A corpus without official splits gets a test set of
    whole speakers and books where they are known, else of whole files.

    A layout is one of: a folder of wav, flac, ogg, mp3 or opus files; LibriSpeech; fairseq's .tsv; JSON Lines in the
    fields of the study's manifest; Lhotse's recordings or cuts (.jsonl.gz); Parquet files with the audio inside.

    Examples:

        speechscale manifest recordings --dataset mine

        speechscale manifest LibriSpeech -o librispeech.jsonl

        speechscale manifest tedlium_cuts_train.jsonl.gz --root /data/tedlium -o tedlium.jsonl

        speechscale manifest sTinyStories --layout parquet --synthetic -o stinystories.jsonl
    """
    from speechscale.datasets.corpora import open_corpus
    from speechscale.datasets.corpora.listing import list_corpus
    from speechscale.datasets.corpora.splits import Splitting
    from speechscale.workers.progress import spinner

    corpus = open_corpus(path, layout, dataset=dataset, root=root, trust_durations=trust_durations)
    target = out or (path if path.is_dir() else path.parent) / "manifest.jsonl"
    splitting = Splitting(seed=seed, share=test_share, forced=split, synthetic=synthetic)
    with spinner("reading the corpus"):
        listed = list_corpus(corpus, splitting, target)
    hours = listed.seconds.total() / 3600
    typer.echo(
        f"{target}: {listed.utterances.total()} utterances, {hours:.2f} hours ({corpus.layout} layout)."
    )
    for name, count in sorted(listed.utterances.items()):
        typer.echo(f"  {name}: {count} utterances, {listed.seconds[name] / 3600:.2f} hours")
    if listed.drawn:
        typer.echo(f"The test set was drawn with seed {seed}: {listed.drawn}.")
    if listed.reasons:
        told = ", ".join(f"{count} {reason}" for reason, count in listed.reasons.most_common())
        typer.echo(f"{listed.reasons.total()} skipped: {told}; {listed.skips} says why.")
    if target.resolve().parent != corpus.root:
        typer.echo(
            f"Its paths are relative to {corpus.root}: give --root {corpus.root} to kmeans and encode."
        )
