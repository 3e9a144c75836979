"""`speechscale train`: one run from its TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    run: Annotated[
        Path, typer.Argument(help="TOML file of one run: run, layers, dim, heads, batch, tokens, …")
    ],
    shards: Annotated[Path, typer.Option(help="Folder of training shards.")],
    test: Annotated[Path, typer.Option(help="Folder of test shards (natural speech).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
) -> None:
    """Train one model: OUT/model.safetensors and OUT/record.json. An interrupted training goes on when run again.

    Example:

        speechscale train studies/runs/one.toml --shards work/nano/units/train --test work/nano/units/test -o one-run
    """
    from speechscale.errors import UserError
    from speechscale.records.runs import write_record
    from speechscale.records.shards import open_shards
    from speechscale.study.engine import progress_bar
    from speechscale.study.spec import read_run
    from speechscale.train.loop import train_run

    spec = read_run(run)
    speech, held_out = open_shards(shards), open_shards(test)
    with progress_bar() as bar:
        row = bar.add_task(spec.run, total=spec.steps)
        record = train_run(spec, speech, held_out, out, lambda done, _: bar.update(row, completed=done))
    write_record(record, out / "record.json")
    if record.loss is None:
        raise UserError(f"{spec.run} diverged ({record.note}); {out / 'record.json'} keeps it on record.")
    typer.echo(
        f"{spec.run}: {record.params:,} parameters (non-embedding), {record.tokens:,} tokens seen, test loss "
        f"{record.loss:.4f} ± {record.loss_se:.4f} nats/token"
        + (f", {record.bits_per_second:.2f} bits per second of audio" if record.bits_per_second else "")
    )
