"""`speechscale unigram`: shards of unigram tokens from shards of units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import Processes


def unigram(
    shards: Annotated[Path, typer.Argument(help="Folder of shards of units.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of token shards; existing shards are kept.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Trained tokenizer, for test speech and benchmarks.  [default: train one, into OUT/unigram]"
        ),
    ] = None,
    vocabulary: Annotated[int, typer.Option(min=2, max=32_766, help="Tokens, without EOS and PAD.")] = 5000,
    units: Annotated[
        int, typer.Option(min=1, help="Size of the seeded sample of utterances to train on, in units.")
    ] = 4_000_000,
    longest: Annotated[int, typer.Option(min=2, max=256, help="Maximum units in a token.")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Processes = None,
) -> None:
    """Convert units to unigram tokens (SentencePiece); `train` accepts the new shards like any other.

    Stop it at any time and run it again to resume. Train the tokenizer on the training speech, then tokenize the rest
    with --model.

    Example:
        speechscale unigram units/train --vocabulary 5000 -o tokens/train

        speechscale unigram units/test --model tokens/train/unigram -o tokens/test
    """
    from speechscale.jobs.tokenize import UnigramSpec, tokenize

    spec = UnigramSpec(vocabulary=vocabulary, units=units, longest=longest, seed=seed)
    tokenize(shards, out, model or spec, workers=workers, report=typer.echo)
