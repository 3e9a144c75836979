"""Awkward tables of runs, from the shell to a plan: every warning of numpy is an error, and refusals are sentences."""

import warnings

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.errors import UserError

RUNNER = CliRunner()
RNG = np.random.default_rng(10)
N = 10 ** RNG.uniform(7, 9, 10)
D = N * 10 ** RNG.uniform(0, 2, 10)
LOSS = (1.73 + 13.9 / N**0.25 + 39.8 / D**0.24) * np.exp(0.005 * RNG.standard_normal(10))
GRID_N, GRID_D = np.repeat([1e7, 1e8, 1e9], 3), np.tile([1e9, 1e10, 1e11], 3)

TABLES = {
    "one run": {"params": N[:1], "tokens": D[:1], "loss": LOSS[:1]},
    "five runs": {"params": N[:5], "tokens": D[:5], "loss": LOSS[:5]},
    "seven runs": {"params": N[:7], "tokens": D[:7], "loss": LOSS[:7]},
    "no noise": {"params": N, "tokens": D, "loss": 1.73 + 13.9 / N**0.25 + 39.8 / D**0.24},
    "one size": {"params": np.full(10, 1e8), "tokens": D, "loss": 2 + 39.8 / D**0.24},
    "one number of tokens": {"params": N, "tokens": np.full(10, 1e10), "loss": 2 + 13.9 / N**0.25},
    "one ratio": {"params": N, "tokens": 20 * N, "loss": 1.73 + 13.9 / N**0.25 + 39.8 / (20 * N) ** 0.24},
    "one budget": {
        "params": N,
        "tokens": 1e18 / N,
        "loss": 1.73 + 13.9 / N**0.25 + 39.8 / (1e18 / N) ** 0.24,
    },
    "rising loss": {"params": N, "tokens": D, "loss": 1 + 0.1 * np.log(N) + 0.02 * RNG.standard_normal(10)},
    "pure noise": {"params": N, "tokens": D, "loss": RNG.uniform(2, 3, 10)},
    "equal losses": {"params": N, "tokens": D, "loss": np.full(10, 2.5)},
    "an outlier": {"params": N, "tokens": D, "loss": np.where(np.arange(10) == 3, 3 * LOSS, LOSS)},
    "rounded losses": {"params": N, "tokens": D, "loss": np.round(LOSS, 1)},
    "tiny losses": {"params": N, "tokens": D, "loss": 1e-6 * LOSS},
    "huge counts": {"params": 1e6 * N, "tokens": 1e8 * D, "loss": LOSS},
    "each run twice": {"params": np.repeat(N[:5], 2), "tokens": np.repeat(D[:5], 2), "loss": LOSS},
    "no weight": {"params": N, "tokens": D, "loss": LOSS, "weight": np.zeros(10)},
    "every second optimiser": {
        "params": N,
        "tokens": D,
        "loss": LOSS * np.tile([1, 1.08], 5),
        "optimizer": ["adamw", "muon"] * 5,
    },
    "two items": {"params": N, "tokens": D, "loss": LOSS, "sblimp": [0.0, 0.5] * 5, "sblimp_items": [2] * 10},
    "five of nine exactly": {
        "params": GRID_N,
        "tokens": GRID_D,
        "loss": (1.73 + 13.9 / GRID_N**0.25 + 39.8 / GRID_D**0.24)
        * np.exp([0, 0.02, 0, 0, -0.027, 0, 0.009, 0, -0.015]),
    },
}


def run(*words) -> str:
    """Output of a command that ends well or refuses in a sentence; any other exception is raised."""
    result = RUNNER.invoke(app, [str(word) for word in words])
    if isinstance(result.exception, UserError):
        return str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.mark.parametrize("name", TABLES)
def test_odd_ladders_give_numbers_or_sentences(name, tmp_path):
    table, law = tmp_path / "runs.csv", tmp_path / "law.json"
    pl.DataFrame(TABLES[name]).write_csv(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outputs = [run("fit", table, "-o", law, "--bootstrap", 100), run("backtest", table)]
        if law.exists():
            outputs += [
                run("plan", law, *goal)
                for goal in (
                    ["--flops", "1e21"],
                    ["--target", "loss=2.2"],
                    ["--params", "1e9", "--tokens", "2e10"],
                    ["--next", 2, "--flops", "1e19"],
                )
            ]
    for output in outputs:
        assert output.strip()
        assert not {"nan", "inf", "-inf"} & set(output.replace(",", " ").replace("[", " ").split())
