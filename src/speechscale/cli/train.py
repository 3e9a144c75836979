"""`speechscale train`: train one run from its TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    run: Annotated[
        Path, typer.Argument(help="TOML file of one run: run, layers, dim, heads, batch, tokens, …")
    ],
    test: Annotated[Path, typer.Option(help="Folder of test shards (natural speech).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    shards: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of training shards; several are mixed.  [default: `corpora` of the TOML file]"
        ),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Share of all windows that each --shards gives, in their order.  [default: equal]"),
    ] = None,
) -> None:
    """Train one model: OUT/model.safetensors and OUT/record.json. An interrupted training continues when run again.

    Examples:

        speechscale train studies/runs/one.toml --shards work/nano/units/train --test work/nano/units/test -o one-run

        speechscale train one.toml --shards read-speech --weight 3 --shards stories --weight 1 --test held-out -o mixed

        torchrun --nproc-per-node 4 --no-python speechscale train one.toml --shards a --test b -o one-run
    """
    from speechscale.jobs.train_run import train_one_run
    from speechscale.train.spec import read_run
    from speechscale.workers.progress import progress_bar

    spec = read_run(run)
    with progress_bar() as bar:
        row = bar.add_task(spec.run, total=spec.steps)
        record = train_one_run(
            spec,
            test,
            out,
            relative_to=run.parent,
            shards=shards or [],
            weights=weight or [],
            on_step=lambda done, _: bar.update(row, completed=done),
        )
    if record is None:  # the main process of the run prints
        return
    typer.echo(
        f"{spec.run}: {record.params:,} parameters (non-embedding), {record.tokens:,} tokens seen, test loss "
        f"{record.loss:.4f} ± {record.loss_se:.4f} nats/token"
        + (f", {record.bits_per_second:.2f} bits per second of audio" if record.bits_per_second else "")
    )
