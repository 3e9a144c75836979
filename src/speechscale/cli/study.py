"""`speechscale study run | plan | status`: a whole study from one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import EngineName, RayAddress

study = typer.Typer(help="A whole study from one TOML file.", no_args_is_help=True, rich_markup_mode=None)
Spec = Annotated[Path, typer.Argument(help="Study file (TOML).")]


@study.command()
def run(
    spec: Spec,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder.  [default: work/NAME]")] = None,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes.  [default: one per GPU in training, else per core]"),
    ] = None,
) -> None:
    """Complete a study: speech, units, ladder, scores, laws, report. If interrupted, run it again to continue.

    On a cluster, every machine needs the same installation and the same files under the same paths.

    Examples:

        speechscale study run studies/smoke.toml -o smoke

        speechscale study run studies/emnlp2024.toml -o ladder --engine ray --ray-address auto
    """
    from speechscale.study.run import run_study
    from speechscale.study.spec import read_study
    from speechscale.study.summary import summary
    from speechscale.workers.choose import choose_backend

    parsed = read_study(spec)
    folder = out or Path("work") / parsed.name
    run_study(parsed, folder, backend=choose_backend(engine, workers, ray_address), log=typer.echo)
    typer.echo(summary(folder))


@study.command()
def plan(
    spec: Spec,
    gpu: Annotated[str | None, typer.Option(help="Name of a GPU, such as H100: adds hours.")] = None,
    mfu: Annotated[float, typer.Option(help="Fraction of the GPU's peak that training reaches (MFU).")] = 0.4,
    price: Annotated[float | None, typer.Option(help="Price of one GPU hour.")] = None,
) -> None:
    """List the runs of a study and what they cost, before anything starts.

    Examples:

        speechscale study plan studies/nano.toml

        speechscale study plan studies/emnlp2024.toml --gpu H100 --mfu 0.4 --price 2.5
    """
    from speechscale.plan import check_gpu_options
    from speechscale.records.gpus import gpu_flops
    from speechscale.study.spec import read_study
    from speechscale.study.summary import Machine, ladder_table

    check_gpu_options(gpu, mfu, price)
    machine = Machine(gpu, mfu * gpu_flops(gpu), price) if gpu else None
    typer.echo(ladder_table(read_study(spec), machine))


@study.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    keep_watching: Annotated[
        bool, typer.Option("--watch", help="Keep the table up to date, until all runs have ended.")
    ] = False,
) -> None:
    """Show the progress of every run, with loss, speed and remaining time.

    Examples:

        speechscale study status work/nano

        speechscale study status work/nano --watch
    """
    import sys

    from speechscale.study.status import status_table, watch

    if keep_watching and sys.stdout.isatty():
        watch(folder)
    else:
        typer.echo(status_table(folder))
