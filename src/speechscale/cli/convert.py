"""`speechscale convert`: converts unit files of other toolkits to shards and back."""

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
        int | None, typer.Option(min=1, help="Number of distinct units; required with --from.")
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="One entry per frame, in shards or OUT.  [default: equal neighbours are one unit]",
        ),
    ] = False,
    frame_rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Frame rate of the encoder in Hz, which gives durations in seconds. Where SOURCE has no durations, "
            "each entry then counts as one frame.  [default: unknown, without bits per second]",
        ),
    ] = None,
    made_by: Annotated[str, typer.Option(help="Description of the encoder that made the units.")] = "unknown",
    codebook: Annotated[
        Path | None,
        typer.Option("--code-book", help="File of the k-means of the units; its hash is recorded."),
    ] = None,
    units_per_shard: Annotated[int, typer.Option(min=1)] = 2_000_000,
) -> None:
    """Convert unit files of fairseq, textlesslib or slamkit to shards, or shards to such files.

    Example:

        speechscale convert features.jsonl --from slamkit --clusters 500 --frame-rate 25 -o shards

        speechscale convert shards --to fairseq -o units.txt
    """
    from speechscale.errors import UserError
    from speechscale.jobs.convert import export_units, import_units
    from speechscale.units.formats import UnitFileInfo

    if (read is None) == (write is None):
        raise UserError("give either --from (a file of units to read) or --to (the format to write).")
    if write is not None:
        typer.echo(f"{out}: {export_units(source, write, out, expand=frames)} utterances.")
        return
    if clusters is None:
        raise UserError(f"{source}: does not say how many units there are; give --clusters, for example 500.")
    info = UnitFileInfo(str(read), clusters, made_by, codebook, frames, frame_rate)
    typer.echo(f"{out}: {import_units(source, info, out, units_per_shard)}")
