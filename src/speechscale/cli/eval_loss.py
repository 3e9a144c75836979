"""`speechscale eval loss`: test loss of a model on each corpus of test shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import Model, ModelPrecision, UnitOffset


def loss(
    model: Model,
    test: Annotated[Path, typer.Option(help="Folder of shards of held-out speech.")],
    unit_offset: UnitOffset = None,
    precision: ModelPrecision = "auto",
) -> None:
    """Compute the test loss per corpus: nats per token, weighted by tokens, with standard errors over utterances.

    Every utterance is read by itself, after EOS and with its closing EOS. Utterances longer than the context are read
    in windows (see `eval run --help`). Bits per second of audio can be compared across tokenizers; they are missing
    where shards do not record the duration of their audio.

    Example:
        speechscale eval loss one-run --test work/nano/units/test
    """
    from speechscale.jobs.evaluate_loss import evaluate_corpus_losses
    from speechscale.workers.progress import spinner

    with spinner("computing the loss"):
        losses, warnings = evaluate_corpus_losses(model, test, unit_offset=unit_offset, precision=precision)
    for warning in warnings:
        typer.echo(f"{warning}.")
    for corpus, each in losses.items():
        bits = "-" if each.bits_per_second is None else f"{each.bits_per_second:.2f}"
        typer.echo(
            f"{corpus or 'all':<24} {each.loss:.4f} ± {each.standard_error:.4f} nats/token  {bits:>8} bits/s  "
            f"{each.tokens:,} tokens"
        )
