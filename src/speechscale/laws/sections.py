"""The sections of a law file: each law fitted to one series, or the reason why it is missing."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechscale.errors import UserError
from speechscale.laws import allocation
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.envelope import DEFINITIONS, MIN_POINTS, CurvePoints, EnvelopeFit, fit_envelope
from speechscale.laws.fitted import FittedLaw
from speechscale.laws.forms import NAMES, to_values
from speechscale.laws.ladder import Ladder, ParameterConstraint
from speechscale.laws.minimise import Array
from speechscale.laws.single_epoch import fit_single_epoch
from speechscale.records.law import FitOptions, rounded
from speechscale.records.law_sections import (
    Allocation,
    Correlation,
    Curvature,
    EnvelopeLaw,
    EnvelopePoints,
    EnvelopePowerLaw,
    FittedRange,
    Interval,
    LossParams,
    Missing,
    OffsetParams,
    OffsetPowerLaw,
    PowerLawParams,
    Residuals,
    SingleEpochLaw,
    Split,
)
from speechscale.records.seeds import spawn_seed


def to_ladder(table: pl.DataFrame) -> Ladder:
    """The runs of a canonical table, with their weights where it has them."""
    weights = table["weight"] if "weight" in table.columns else None
    return Ladder.of(table["params"], table["tokens"], table["loss"], weights)


def single_epoch(
    table: pl.DataFrame, options: FitOptions
) -> tuple[SingleEpochLaw, FittedLaw] | tuple[Missing, None]:
    """The single-epoch law of single-epoch runs, for the file and for the laws that build on it."""
    ladder = to_ladder(table)
    try:
        fit = fit_single_epoch(
            ladder.params,
            ladder.tokens,
            ladder.loss,
            weights=ladder.weights,
            delta=options.delta,
            constraint=ParameterConstraint.of(options.tied, options.fixed),
            exhaustive=options.exhaustive,
        )
    except UserError as error:
        return Missing(missing=str(error)), None
    base_law = FittedLaw.of(fit, options)
    values = to_values(base_law.draws)
    section = SingleEpochLaw(
        params=LossParams[float](**fit.params),
        interval95=LossParams[Interval | None](
            **{name: percentile_interval(values[:, k]) for k, name in enumerate(NAMES)}
        ),
        correlation=Correlation(
            log_a_alpha=_correlation(base_law.draws[:, 0], base_law.draws[:, 3]),
            log_b_beta=_correlation(base_law.draws[:, 1], base_law.draws[:, 4]),
        ),
        delta=fit.delta,
        objective=fit.objective,
        converged=fit.converged,
        convergence=fit.convergence,
        noise=fit.noise,
        allocation=_allocation(base_law),
        range=_fitted_range(table),
        draws=LossParams[list[float]](**{name: rounded(values[:, k]) for k, name in enumerate(NAMES)}),
        residuals=Residuals(
            run=table["run"].to_list(),
            ln_predicted_over_observed=rounded(fit.residuals),
            influence=rounded(base_law.influence),
        ),
    )
    return section, base_law


def envelope(single: pl.DataFrame, curves: pl.DataFrame | None, options: FitOptions) -> EnvelopeLaw | Missing:
    """The compute envelope of learning curves, or of the ends of single-epoch runs where there are no curves."""
    if curves is not None and curves.height:
        points = curves.filter(pl.col("run").is_in(single["run"].to_list()))
        label = points["run"]
    else:
        points, label = single, single["params"]  # runs known by their end alone: one curve a size
    if points.height < MIN_POINTS:
        return Missing(missing=f"{points.height} points of single-epoch runs; {MIN_POINTS} are the least")
    curve = label.rank("dense").to_numpy().astype(int) - 1
    cloud = CurvePoints.of(points["flops"].to_numpy(), points["loss"].to_numpy(), curve)
    fits = {
        name: fit_envelope(
            cloud, name, resamples=options.bootstrap, seed=spawn_seed(options.seed, "envelope")
        )
        for name in DEFINITIONS
    }
    chosen = fits[options.envelope]
    power_law = _power_law(chosen)
    if isinstance(power_law, Missing):
        return power_law
    held = chosen.envelope.mask[0]
    return EnvelopeLaw(
        definition=options.envelope,
        params=power_law.params,
        interval95=power_law.interval95,
        curvature=Curvature(
            value=finite_or_none(chosen.curvature[0]), interval95=percentile_interval(chosen.curvature[1:])
        ),
        offset=_offset(chosen),
        points=EnvelopePoints(
            flops=rounded(np.exp(chosen.envelope.log_c[held])),
            loss=rounded(np.exp(chosen.envelope.log_l[0, held])),
        ),
        definitions={name: _power_law(fit) for name, fit in fits.items()},
    )


def _allocation(base_law: FittedLaw) -> Allocation:
    a = allocation.split_exponent(base_law.draws)
    return Allocation(
        **{name: finite_or_none(value) for name, value in base_law.fit.allocation.items()},
        interval95=Split[Interval | None](
            a=percentile_interval(a),
            b=percentile_interval(1 - a),
            G=percentile_interval(np.exp(allocation.log_g(base_law.draws))),
        ),
    )


def _power_law(fit: EnvelopeFit) -> EnvelopePowerLaw | Missing:
    if not np.isfinite(fit.gamma[0]):
        return Missing(missing="no run beats the loss of the cheapest one, so the envelope is a single point")
    return EnvelopePowerLaw(
        params=PowerLawParams[float](
            coefficient=float(np.exp(fit.log_coefficient[0])), gamma=float(fit.gamma[0])
        ),
        interval95=PowerLawParams[Interval | None](
            coefficient=percentile_interval(np.exp(fit.log_coefficient[1:])),
            gamma=percentile_interval(fit.gamma[1:]),
        ),
    )


def _offset(fit: EnvelopeFit) -> OffsetPowerLaw | Missing:
    if not np.isfinite(fit.offset[0]).all():
        return Missing(missing="no falling power law with an offset fits this envelope")
    names = ("E", "coefficient", "gamma")
    offset = fit.offset.copy()
    offset[:, 1] = np.exp(offset[:, 1])
    return OffsetPowerLaw(
        params=OffsetParams[float](**dict(zip(names, offset[0].tolist(), strict=True))),
        interval95=OffsetParams[Interval | None](
            **{name: percentile_interval(offset[1:, k]) for k, name in enumerate(names)}
        ),
    )


def _correlation(one: Array, other: Array) -> float | None:
    """None where one of the two does not vary, as a fixed parameter does."""
    if min(np.ptp(one), np.ptp(other)) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _fitted_range(table: pl.DataFrame) -> FittedRange:
    ends = {name: table[name].to_numpy() for name in ("params", "tokens", "flops", "loss")}
    return FittedRange(**{name: (float(v.min()), float(v.max())) for name, v in ends.items()})


def finite_or_none(value: float) -> float | None:
    """The value, or None where it is infinite or NaN, which JSON cannot hold."""
    return float(value) if np.isfinite(value) else None
