"""The single-epoch law of one series with its draws, on which all later laws build."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.laws.bootstrap import draw_laws
from speechscale.laws.influence import influence
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import SingleEpochFit
from speechscale.records.law import FitOptions
from speechscale.records.seeds import spawn_seed


@dataclass(frozen=True)
class FittedLaw:
    """A fit of n runs with S draws of it (S, 5) and the influence of each run on the forecast (n,)."""

    fit: SingleEpochFit
    draws: Array
    influence: Array

    @classmethod
    def of(cls, fit: SingleEpochFit, options: FitOptions) -> FittedLaw:
        """Draw laws around a fit, by the options of the fit, and leave out each run in turn."""
        draws = draw_laws(
            fit, options.bootstrap, spawn_seed(options.seed, "single-epoch law"), options.resampling
        )
        return cls(fit, draws, influence(fit))

    @property
    def laws(self) -> Array:
        """The fit in row 0 and its draws below, (S + 1, 5)."""
        return np.concatenate([self.fit.theta[None], self.draws])
