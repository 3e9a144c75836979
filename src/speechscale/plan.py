"""Planning with a law: the best use of a budget, and the budget that a goal takes, with intervals from the draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws import allocation
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.design import choose_runs
from speechscale.laws.draws import LawDraws
from speechscale.laws.minimise import Array
from speechscale.laws.scores import SaturatingCurves, logistic
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN
from speechscale.records.gpus import gpu_flops
from speechscale.records.plan import Estimate, FurtherRun, FurtherRuns, GpuEstimate, Plan

LOG_SIZES = np.linspace(-9.0, 9.0, 361)  # ln N tried, around the best split without repetition
LOG_BUDGETS = np.log(10.0) * np.linspace(0.0, 36.0, 289)  # ln FLOPs searched for a goal under constraints
ROUNDING = 1e-9  # relative spread below which all rows hold the same number
FAR_BEYOND = 10.0  # times the largest fitted run, from which a note calls the forecast far


@dataclass(frozen=True)
class Constraints:
    """What is not free: the unique tokens, the model size, and the machine."""

    unique_tokens: float | None = None
    params: float | None = None
    gpu: str | None = None
    mfu: float = 0.4
    price: float | None = None  # of one GPU hour
    tokens_per_second: float | None = None  # of audio; that of the law when None


@dataclass(frozen=True)
class Split:
    """Ln of parameters, tokens and FLOPs, and ln L, each (S,) over the rows of a law."""

    log_n: Array
    log_d: Array
    log_c: Array
    log_loss: Array


# Draws of a weak law may have no best split: their numbers overflow or are NaN, and intervals leave them out.
_ignore_nonfinite_draws = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@_ignore_nonfinite_draws
def plan_budget(law: LawDraws, flops: float, limits: Constraints = Constraints()) -> Plan:
    """The best use of a budget in FLOPs.

    The plan is the best split of row 0 of the law. The intervals of N and D are those of the best split, and those of
    loss and scores are those of what this very plan reaches.

    Raises:
        UserError: a value that is not above zero, or constraints that the law cannot answer.
    """
    _require_valid(law, limits)
    if not (np.isfinite(flops) and flops > 0):
        raise UserError(f"a budget of {flops} FLOPs; a number above zero is wanted.")
    split = _best_split(law, np.full(len(law.theta), np.log(flops)), limits)
    return _to_plan(law, split, limits, _log_loss_of_first_row(law, split, limits))


@_ignore_nonfinite_draws
def plan_target(law: LawDraws, score: str, goal: float, limits: Constraints = Constraints()) -> Plan:
    """The least budget whose best use is expected to reach a score.

    Args:
        law: the law with draws.
        score: name of the score.
        goal: the score wanted, in [0, 1].
        limits: what is not free.

    Raises:
        UserError: the law has no answer, and why.
    """
    _require_valid(law, limits)
    if score not in law.scores:
        known = ", ".join(law.scores) or "no score at all"
        raise UserError(
            f"the law of {law.name} has no rising curve for {score!r}{nearest(score, set(law.scores))}; it has {known}."
        )
    curve = law.scores[score]
    ceiling = float(curve.curves[0, 2])
    if not curve.floor < goal < ceiling:
        raise UserError(
            f"{score}={goal:g} cannot be planned for: by this law the score is between chance ({curve.floor:g}) and "
            f"its ceiling ({ceiling:.3g})."
        )
    loss = -curve.at(goal)
    rows = np.arange(len(law.theta)) % len(loss)
    log_c = _log_budget_for(law, np.where(np.isfinite(loss), loss, -np.inf)[rows], limits)
    if not np.isfinite(log_c[0]):
        raise UserError(
            f"{score}={goal:g} takes a loss of {loss[0]:.4g}, which the law of {law.name} never reaches"
            + (" with these unique tokens or this size" if limits.unique_tokens or limits.params else "")
            + f" (E is {np.exp(law.theta[0, 2]):.4g}): no budget is enough."
        )
    split = _best_split(law, log_c, limits)
    return _to_plan(law, split, limits, split.log_loss)


@_ignore_nonfinite_draws
def plan_next(law: LawDraws, count: int, flops: float, forecast_flops: float | None = None) -> FurtherRuns:
    """The further runs that reduce the error of a forecast most; see `laws.design.choose_runs`.

    Raises:
        UserError: a law whose loss does not fall with size or data, or a budget that allows no design.
    """
    _require_falling(law)
    design = choose_runs(law, count, flops, forecast_flops)
    runs = [
        FurtherRun(params=run.params, tokens=run.tokens, flops=run.flops, forecast_se=after)
        for run, after in zip(design.chosen, design.after, strict=True)
    ]
    return FurtherRuns(runs=runs, law_checks=law.checks)


def check_gpu_options(gpu: str | None, mfu: float, price: float | None) -> None:
    """Check the options from which hours and cost are computed.

    Raises:
        UserError: an unknown GPU, an impossible utilisation or price, or a price without a GPU.
    """
    if price is not None:
        _require_positive("a price", price)
        if gpu is None:
            raise UserError("a price without a GPU: name the GPU that it is for, as in --gpu H100.")
    if not 0 < mfu <= 1:
        raise UserError(f"an MFU of {mfu}; a share in (0, 1] is wanted.")
    if gpu is not None:
        gpu_flops(gpu)


def parse_score_target(text: str) -> tuple[str, float]:
    """Score and value, ("sblimp", 0.8), of "sblimp=0.8" or "sblimp=80".

    Raises:
        UserError: not of this form.
    """
    score, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise UserError(f"--target {text!r}: a score and a number are wanted, as in sblimp=0.8.") from None
    return score.strip(), value / 100 if value > 1 else value


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise UserError(f"{name} of {value:g}; a number above zero is wanted.")


def _require_falling(law: LawDraws) -> None:
    """Refuse a law whose loss does not fall with model size and with data: it has no best split of a budget."""
    for name, exponent in zip(("alpha", "beta"), law.theta[0, 3:5], strict=True):
        if not (np.isfinite(exponent) and exponent > 0):
            raise UserError(
                f"the law of {law.name} has {name} = {exponent:.4g}; a finite number above zero is wanted, because "
                "without it no split of a budget is best. Fit runs of more sizes and token counts, or plan with "
                "--published."
            )


def _require_valid(law: LawDraws, limits: Constraints) -> None:
    _require_falling(law)
    for name, value in (
        ("unique tokens", limits.unique_tokens),
        ("params", limits.params),
        ("tokens per second", limits.tokens_per_second),
    ):
        if value is not None:
            _require_positive(name, value)
    check_gpu_options(limits.gpu, limits.mfu, limits.price)
    if limits.unique_tokens is not None and not law.has_repeated_data:
        raise UserError(
            f"the law of {law.name} was not fitted to repeated data, so it cannot say what epochs are worth; plan "
            "without --unique-tokens, or fit runs of several epochs."
        )


def _best_split(law: LawDraws, log_c: Array, limits: Constraints) -> Split:
    """The best split of a budget, ln C (S,), for every row of the law."""
    log_nd = log_c - np.log(FLOPS_PER_PARAM_TOKEN)
    if limits.params is not None:
        log_n = np.full_like(log_c, np.log(limits.params))
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            log_n, _ = allocation.log_optimum(law.theta, np.exp(log_c))
    if limits.unique_tokens is None:
        return _split_at(law, log_n, log_nd, None)
    log_unique = np.full((len(log_c), 1), np.log(limits.unique_tokens))
    if limits.params is None:
        sizes = log_n[:, None] + LOG_SIZES
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            losses = law.log_loss(sizes, log_nd[:, None] - sizes, log_unique)
        best = np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=1)
        log_n = sizes[np.arange(len(sizes)), best]
    return _split_at(law, log_n, log_nd, log_unique)


def _split_at(law: LawDraws, log_n: Array, log_nd: Array, log_unique: Array | None) -> Split:
    """The split of a budget, ln (N D) (S,), at given sizes, ln N (S,)."""
    log_d = log_nd - log_n
    losses = law.log_loss(log_n[:, None], log_d[:, None], log_unique)[:, 0]
    return Split(log_n, log_d, log_nd + np.log(FLOPS_PER_PARAM_TOKEN), losses)


def _log_budget_for(law: LawDraws, loss: Array, limits: Constraints) -> Array:
    """Ln of the least budget (S,) that reaches a loss (S,); infinite where none does."""
    if limits.unique_tokens is None and limits.params is None:
        with np.errstate(divide="ignore"):
            return np.log(allocation.flops_for(law.theta, loss))
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = np.log(loss)
    reached = np.stack(
        [_best_split(law, np.full(len(loss), log_c), limits).log_loss for log_c in LOG_BUDGETS], axis=1
    )  # (S, budgets)
    least = np.minimum.accumulate(np.where(np.isfinite(reached), reached, np.inf), axis=1)
    enough = least <= goal[:, None]
    first = np.argmax(enough, axis=1)
    row = np.arange(len(loss))
    before = np.maximum(first - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (least[row, before] - goal) / (least[row, before] - least[row, first])
    log_c = LOG_BUDGETS[before] + np.clip(np.nan_to_num(share), 0, 1) * (
        LOG_BUDGETS[first] - LOG_BUDGETS[before]
    )
    return np.where(enough.any(axis=1), log_c, np.inf)


def _to_plan(law: LawDraws, split: Split, limits: Constraints, log_loss: Array) -> Plan:
    """The plan of row 0, with intervals from the other rows.

    Args:
        law: the law with draws.
        split: the best split by every row.
        limits: what is not free.
        log_loss: ln L (S,) from which loss and scores follow.
    """
    unique = limits.unique_tokens
    params, tokens, flops, loss = (np.exp(rows) for rows in (split.log_n, split.log_d, split.log_c, log_loss))
    epochs = np.maximum(tokens / unique, 1.0) if unique else np.ones_like(tokens)
    rate = limits.tokens_per_second or law.tokens_per_second
    collected = np.minimum(tokens, unique or np.inf)  # repetitions need no further audio
    planned = {"params": params[0], "tokens": tokens[0], "flops": flops[0]}
    beyond = {name: float(planned[name] / law.largest[name]) for name in planned if name in law.largest}
    return Plan(
        law=law.name,
        flops=_estimate(flops),
        params=_estimate(params),
        tokens=_estimate(tokens),
        epochs=_estimate(epochs),
        unique_tokens=unique,
        loss=_estimate(loss),
        scores={name: _estimate(_scores_at(curve, loss)) for name, curve in law.scores.items()},
        audio_hours=_estimate(collected / rate / 3600) if rate else None,
        gpu=_gpu_estimate(flops, limits),
        beyond=beyond,
        notes=_notes(law, split, limits, beyond),
        law_checks=law.checks,
    )


def _log_loss_of_first_row(law: LawDraws, split: Split, limits: Constraints) -> Array:
    """Ln L (S,) that each row of the law expects of the split of row 0."""
    unique = None if limits.unique_tokens is None else np.log([limits.unique_tokens])
    return law.log_loss(split.log_n[:1], split.log_d[:1], unique)[:, 0]


def _scores_at(curve: SaturatingCurves, loss: Array) -> Array:
    """The score at each loss (S,) by the draws of its curve, which are repeated where there are fewer of them."""
    rows = np.arange(max(len(loss), len(curve.curves)))
    midpoint, steepness, ceiling = curve.curves[rows % len(curve.curves)].T
    return logistic(-loss[rows % len(loss)], curve.floor, midpoint, steepness, ceiling)


def _estimate(rows: Array) -> Estimate:
    """The first row, with the interval of the others."""
    given = np.ptp(rows) <= ROUNDING * abs(rows[0])  # a number that was given has no interval
    return Estimate(value=float(rows[0]), interval95=None if given else percentile_interval(rows[1:]))


def _gpu_estimate(flops: Array, limits: Constraints) -> GpuEstimate | None:
    if limits.gpu is None:
        return None
    hours = flops / (gpu_flops(limits.gpu) * limits.mfu) / 3600
    cost = None if limits.price is None else _estimate(hours * limits.price)
    return GpuEstimate(name=limits.gpu, mfu=limits.mfu, hours=_estimate(hours), cost=cost)


def _notes(law: LawDraws, split: Split, limits: Constraints, beyond: dict[str, float]) -> list[str]:
    notes = []
    if not law.draws:
        notes.append(f"{law.name} was published without uncertainty, so nothing here has an interval.")
    far = {name: factor for name, factor in beyond.items() if factor > FAR_BEYOND}
    if far:
        factors = ", ".join(f"{name} {factor:.3g} times" for name, factor in far.items())
        notes.append(
            f"Far beyond the fitted runs ({factors} the largest): a forecast of the law, not of experience."
        )
    elif not beyond:
        notes.append(
            "How far this is beyond the fitted runs is not known, because their range was not published."
        )
    if limits.unique_tokens is not None:
        notes.append(_tenfold_note(law, split, limits, limits.unique_tokens))
    return notes


def _tenfold_note(law: LawDraws, split: Split, limits: Constraints, unique_tokens: float) -> str:
    """How ten times the compute is best split between parameters and epochs."""
    if limits.params is not None or np.exp(split.log_d[0]) < unique_tokens:
        return "The unique tokens are not used up at this budget." if limits.params is None else "N is fixed."
    larger = _best_split(law, split.log_c + np.log(10.0), limits)
    params = float(np.exp(larger.log_n[0] - split.log_n[0]))
    epochs = float(np.exp(larger.log_d[0] - split.log_d[0]))
    more, less = ("parameters", "epochs") if params > epochs else ("epochs", "parameters")
    return (
        f"The data is repeated. Of ten times this compute, {params:.2g} times would go to parameters and {epochs:.2g} "
        f"times to epochs: from here on, more {more} beat more {less}."
    )
