"""`speechscale eval loss`: a model and test shards in, its loss on each corpus out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.eval_run import Model, Precision, UnitOffset


def loss(
    model: Model,
    test: Annotated[Path, typer.Option(help="Folder of shards of held-out speech.")],
    unit_offset: UnitOffset = None,
    precision: Precision = "auto",
) -> None:
    """Read a whole test set: nats per token, weighted by tokens, with standard errors over utterances, per corpus.

    Every utterance is read by itself, after EOS, its closing EOS included; longer ones than the context in windows (see
    `eval run --help`). Bits per second of audio can be compared across tokenizers; they are missing where shards do not
    say how long their audio is.

    Example:

        speechscale eval loss one-run --test work/nano/units/test
    """
    from speechscale.jobs.evaluate import losses
    from speechscale.workers.progress import spinner

    with spinner("reading"):
        found, remarks = losses(model, test, unit_offset=unit_offset, precision=precision)
    for remark in remarks:
        typer.echo(f"{remark}.")
    for corpus, each in found.items():
        bits = "-" if each.bits_per_second is None else f"{each.bits_per_second:.2f}"
        typer.echo(
            f"{corpus or 'all':<24} {each.loss:.4f} ± {each.standard_error:.4f} nats/token  {bits:>8} bits/s  "
            f"{each.tokens:,} tokens"
        )
