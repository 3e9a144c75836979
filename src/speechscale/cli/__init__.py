"""The command line: one thin file a verb, which parses, calls one function and prints."""

from __future__ import annotations

import signal
import sys

import typer

from speechscale.cli.backtest import backtest
from speechscale.cli.convert import convert
from speechscale.cli.encode import encode
from speechscale.cli.evaluate import evaluate
from speechscale.cli.fit import fit
from speechscale.cli.generate import generate
from speechscale.cli.interchange import export, import_
from speechscale.cli.kmeans import kmeans
from speechscale.cli.manifest import manifest
from speechscale.cli.plan import plan
from speechscale.cli.report import report
from speechscale.cli.simulate import simulate
from speechscale.cli.study import study
from speechscale.cli.synthesize import synthesize
from speechscale.cli.train import train
from speechscale.cli.unigram import unigram
from speechscale.cli.verify import verify
from speechscale.errors import UserError

app = typer.Typer(
    help="Scaling laws for speech language models: from speech to units, models, scores, laws and a plan.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts faster, and reads the same when piped
)
app.command()(synthesize)
app.command()(manifest)
app.command()(kmeans)
app.command()(encode)
app.command()(convert)
app.command()(unigram)
app.command()(verify)
app.command()(train)
app.add_typer(evaluate, name="eval")
app.command()(generate)
app.command()(export)
app.command(name="import")(import_)
app.command()(fit)
app.command()(backtest)
app.command()(plan)
app.command()(simulate)
app.command()(report)
app.add_typer(study, name="study")


def main() -> None:
    """Run a verb. Bad input ends in one sentence and status 1, an interrupt in status 130."""
    signal.signal(signal.SIGTERM, _interrupt)  # a killed command ends its workers, as ctrl-C does
    try:
        app()
    except UserError as error:
        print(f"speechscale: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"speechscale: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("speechscale: interrupted; run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def _interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt
