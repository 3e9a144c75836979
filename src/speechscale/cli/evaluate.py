"""`speechscale eval`: zero-shot scores and test losses of models; one file per verb."""

from __future__ import annotations

import typer

from speechscale.cli.eval_loss import loss
from speechscale.cli.eval_prepare import prepare
from speechscale.cli.eval_run import run
from speechscale.cli.eval_text import text

evaluate = typer.Typer(
    help="Zero-shot scores and test losses of models.", no_args_is_help=True, rich_markup_mode=None
)
evaluate.command()(prepare)
evaluate.command()(run)
evaluate.command()(loss)
evaluate.command()(text)
