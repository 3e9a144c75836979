"""`speechscale convert`: units in the files of other makers, to shards and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path, typer.Argument(help="File of units (with --from), or folder of shards (with --to).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of shards, or file of units.")],
    read: Annotated[
        str | None,
        typer.Option("--from", help="Format of SOURCE: fairseq, textless, slamkit, slamkit-tokens."),
    ] = None,
    write: Annotated[
        str | None, typer.Option("--to", help="Format of OUT: fairseq, textless, slamkit.")
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(min=1, help="How many units there are; needed with --from.")
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames", help="One entry a frame, in or out.  [default: equal neighbours are one unit]"
        ),
    ] = False,
    frame_rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Frames a second of the encoder, from which seconds follow; where SOURCE has no durations, it says "
            "that each entry is a frame.  [default: seconds are not known, nor bits per second]",
        ),
    ] = None,
    made_by: Annotated[str, typer.Option(help="The encoder that made the units, in words.")] = "unknown",
    code_book: Annotated[
        Path | None, typer.Option(help="File of their k-means; its hash is recorded.")
    ] = None,
    units_per_shard: Annotated[int, typer.Option(min=1)] = 2_000_000,
) -> None:
    """Read units that others made, or write ours for them: fairseq, textlesslib, slamkit. Nothing is encoded again.

    Example:

        speechscale convert features.jsonl --from slamkit --clusters 500 --frame-rate 25 -o shards

        speechscale convert shards --to fairseq -o units.txt
    """
    from speechscale.errors import UserError
    from speechscale.jobs.encode import summarise
    from speechscale.records.shards import open_shards
    from speechscale.units.formats import Foreign, read_units, write_units
    from speechscale.workers.progress import spinner

    if (read is None) == (write is None):
        raise UserError("give either --from (a file of units to read) or --to (what to write shards as).")
    if write is not None:
        with spinner("writing units"):
            count = write_units(open_shards(source), write, out, frames=frames)
        typer.echo(f"{out}: {count} utterances.")
        return
    if clusters is None:
        raise UserError(f"{source}: how many units there are is not in the file; give --clusters, say 500.")
    foreign = Foreign(str(read), clusters, made_by, code_book, frames, frame_rate)
    with spinner("reading units"):
        read_units(source, foreign, out, units_per_shard)
    typer.echo(f"{out}: {summarise(open_shards(out))}")
