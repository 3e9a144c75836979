"""Forecasts of given runs by a law with draws, as a table."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechscale.laws.draws import LawDraws
from speechscale.laws.estimates import loss_estimate, score_estimate
from speechscale.records.flops import training_flops
from speechscale.records.law_sections import Interval


def forecast_runs(law: LawDraws, design: pl.DataFrame) -> pl.DataFrame:
    """Forecast the loss and the scores of runs that see every token once.

    Args:
        law: the law with draws.
        design: columns params and tokens; run, and flops, where known.

    Returns:
        One row a run: `run, params, tokens, flops`; `loss` with the 95 % interval of a new run (`loss_low`,
        `loss_high`) and of the law (`law_low`, `law_high`); `beyond`, the largest factor by which N, D or C is outside
        the fitted runs, 1 inside; and `<score>, <score>_low, <score>_high, <score>_law_low, <score>_law_high` alike.
        Intervals are null where the law has none.
    """
    params, tokens = design["params"].to_numpy(), design["tokens"].to_numpy()
    flops = design["flops"].to_numpy() if "flops" in design.columns else training_flops(params, tokens)
    names = design["run"].to_list() if "run" in design.columns else [str(k + 1) for k in range(design.height)]
    log_losses = law.log_loss(np.log(params), np.log(tokens))
    rows = [
        {
            "run": names[k],
            "params": float(params[k]),
            "tokens": float(tokens[k]),
            "flops": float(flops[k]),
            **_loss(law, log_losses[:, k]),
            "beyond": max(
                law.beyond({"params": params[k], "tokens": tokens[k], "flops": flops[k]}).values(),
                default=1.0,
            ),
            **_scores(law, log_losses[:, k]),
        }
        for k in range(design.height)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _loss(law: LawDraws, log_loss: np.ndarray) -> dict[str, float | None]:
    found = loss_estimate(law, log_loss)
    low, high = _ends(found.interval95)
    law_low, law_high = _ends(found.law_interval95)
    return {"loss": found.value, "loss_low": low, "loss_high": high, "law_low": law_low, "law_high": law_high}


def _scores(law: LawDraws, log_loss: np.ndarray) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    for name, curve in law.scores.items():
        found = score_estimate(law, curve, log_loss)
        columns[name] = found.value
        columns[f"{name}_low"], columns[f"{name}_high"] = _ends(found.interval95)
        columns[f"{name}_law_low"], columns[f"{name}_law_high"] = _ends(found.law_interval95)
    return columns


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else interval
