"""`speechscale report`: one HTML page from a study folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a finished study; it must contain runs.csv.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page to write.  [default: STUDY/report.html]")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder in which to write every figure as SVG and PNG as well.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a study: findings, figures, tables, audio.

    Example:

        speechscale report work/nano -o nano.html --figures figures/
    """
    from speechscale.report import write_figures, write_report

    typer.echo(f"report: {write_report(study, output)}")
    if figures:
        written = write_figures(study, figures)
        typer.echo(f"figures: {len(written)} files in {figures}")
