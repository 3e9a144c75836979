"""`speechscale unigram`: shards of units in, shards of unigram tokens out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def unigram(
    shards: Annotated[Path, typer.Argument(help="Folder of shards of units.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of token shards; shards already there are kept.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Tokens learnt before, for test speech and benchmarks.  [default: learn them, into OUT/unigram]"
        ),
    ] = None,
    vocabulary: Annotated[int, typer.Option(min=2, max=32_766, help="Tokens, without EOS and PAD.")] = 5000,
    units: Annotated[
        int, typer.Option(min=1, help="Size of the seeded sample of utterances to learn from, in units.")
    ] = 4_000_000,
    longest: Annotated[int, typer.Option(min=2, max=256, help="Units in a token, at most.")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a core]")] = None,
) -> None:
    """Join units to unigram tokens (SentencePiece); `train` reads the new shards like any other.

    Stop it at any time and run it again to go on. Learn from the training speech, then encode the rest with --model.

    Example:

        speechscale unigram units/train --vocabulary 5000 -o tokens/train

        speechscale unigram units/test --model tokens/train/unigram -o tokens/test
    """
    from speechscale.compute import available_cores
    from speechscale.jobs.tokenize import learn_tokens, tokenise
    from speechscale.tokens.unigram import UnigramSpec, UnigramTask

    learnt = model or out / "unigram"
    if model is None:
        spec = UnigramSpec(vocabulary=vocabulary, units=units, longest=longest, seed=seed)
        typer.echo(f"{learnt}: {learn_tokens(UnigramTask(shards, spec, learnt))}")
    typer.echo(f"{out}: {tokenise(shards, learnt, out, workers or available_cores())}")
