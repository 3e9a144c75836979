"""Scaling laws of a table of runs, with intervals; no torch.

>>> from speechscale.laws import fit_single_epoch
>>> fit = fit_single_epoch(params, tokens, loss)
>>> fit.params["alpha"], fit.allocation["a"]
"""

from speechscale.laws.bootstrap import draw_laws, percentile_interval
from speechscale.laws.ladder import ParameterConstraint
from speechscale.laws.single_epoch import SingleEpochFit, fit_single_epoch
from speechscale.laws.table import fit_table

__all__ = [
    "ParameterConstraint",
    "SingleEpochFit",
    "draw_laws",
    "fit_single_epoch",
    "fit_table",
    "percentile_interval",
]
