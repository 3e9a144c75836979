"""From a law to a plan: the best use of a budget, the budget that a goal takes, with intervals from the law's draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws import allocation
from speechscale.laws.bootstrap import percentile_interval
from speechscale.laws.design import choose_runs
from speechscale.laws.drawn import LawDraws
from speechscale.laws.minimise import Array
from speechscale.laws.scores import SaturatingCurves, logistic
from speechscale.records.gpus import gpu_flops
from speechscale.records.plan import Estimate, Gpu, Plan, Run

SIZES = np.linspace(-9.0, 9.0, 361)  # ln N tried, around the best split without repetition
BUDGETS = np.log(10.0) * np.linspace(0.0, 36.0, 289)  # ln FLOPs searched for a goal under constraints
ROUNDING = 1e-9  # relative spread below which rows are one number
LITTLE_TRUST = 10.0  # times the largest fitted run beyond which a forecast is called far


@dataclass(frozen=True)
class Constraints:
    """What is not free: unique tokens at hand, a fixed size, and the machine."""

    unique_tokens: float | None = None
    params: float | None = None
    gpu: str | None = None
    mfu: float = 0.4
    price: float | None = None  # of one GPU hour
    tokens_per_second: float | None = None  # of audio; the law's own when None


@dataclass(frozen=True)
class Split:
    """ln of parameters, tokens and FLOPs, and ln L, each (S,) over the rows of a law."""

    log_n: Array
    log_d: Array
    log_c: Array
    log_loss: Array


def plan_budget(law: LawDraws, flops: float, limits: Constraints = Constraints()) -> Plan:
    """The best use of a budget in FLOPs.

    The plan is the law's own best split; its intervals of N and D are those of where the best split may lie, and
    those of loss and scores are those of what this very plan will reach.

    Raises:
        UserError: a value that is not above zero, or constraints that the law knows nothing of.
    """
    _demand(law, limits)
    if not (np.isfinite(flops) and flops > 0):
        raise UserError(f"a budget of {flops} FLOPs; a number above zero is wanted.")
    return _tell(law, _best(law, np.full(len(law.theta), np.log(flops)), limits), limits, fixed_budget=True)


def plan_target(law: LawDraws, score: str, goal: float, limits: Constraints = Constraints()) -> Plan:
    """The least budget whose best use is expected to reach a score in [0, 1], by way of the loss it takes.

    Raises:
        UserError: the law cannot say, and why.
    """
    _demand(law, limits)
    if score not in law.scores:
        known = ", ".join(law.scores) or "no score at all"
        raise UserError(
            f"the law of {law.name} has no rising curve for {score!r}{nearest(score, set(law.scores))}; it has {known}."
        )
    curve = law.scores[score]
    ceiling = float(curve.curves[0, 2])
    if not curve.floor < goal < ceiling:
        raise UserError(
            f"{score}={goal:g} cannot be planned for: by this law the score lies between chance ({curve.floor:g}) and "
            f"its ceiling ({ceiling:.3g})."
        )
    loss = -curve.at(goal)
    rows = np.arange(len(law.theta)) % len(loss)
    log_c = _budget_for(law, np.where(np.isfinite(loss), loss, -np.inf)[rows], limits)
    if not np.isfinite(log_c[0]):
        raise UserError(
            f"{score}={goal:g} takes a loss of {loss[0]:.4g}, which the law of {law.name} never reaches"
            + (" with these unique tokens or this size" if limits.unique_tokens or limits.params else "")
            + f" (E is {np.exp(law.theta[0, 2]):.4g}): no budget is enough."
        )
    return _tell(law, _best(law, log_c, limits), limits, fixed_budget=False)


def check_gpu_options(gpu: str | None, mfu: float, price: float | None) -> None:
    """Whether hours and cost can be told of such a machine.

    Raises:
        UserError: an unknown GPU, a share or a price that is impossible, or a price of nothing.
    """
    if price is not None:
        _positive("a price", price)
        if gpu is None:
            raise UserError("a price without a GPU: name the GPU that it is for, as in --gpu H100.")
    if not 0 < mfu <= 1:
        raise UserError(f"an MFU of {mfu}; a share in (0, 1] is wanted.")
    if gpu is not None:
        gpu_flops(gpu)


def _positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise UserError(f"{name} of {value:g}; a number above zero is wanted.")


def _demand(law: LawDraws, limits: Constraints) -> None:
    for name, value in (
        ("unique tokens", limits.unique_tokens),
        ("params", limits.params),
        ("tokens per second", limits.tokens_per_second),
    ):
        if value is not None:
            _positive(name, value)
    check_gpu_options(limits.gpu, limits.mfu, limits.price)
    if limits.unique_tokens is not None and not law.repeats:
        raise UserError(
            f"the law of {law.name} was not fitted to repeated data, so it cannot say what epochs are worth; plan "
            "without --unique-tokens, or fit runs of several epochs."
        )


def _best(law: LawDraws, log_c: Array, limits: Constraints) -> Split:
    """The best split of a budget (S,) for every row of the law."""
    per_flop = log_c - np.log(allocation.FLOPS_PER_PARAM_TOKEN)  # ln (N D)
    if limits.params is not None:
        log_n = np.full_like(log_c, np.log(limits.params))
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            log_n, _ = allocation.log_optimum(law.theta, np.exp(log_c))
    if limits.unique_tokens is None:
        return _split(law, log_n, per_flop, None)
    log_unique = np.full((len(log_c), 1), np.log(limits.unique_tokens))
    if limits.params is None:
        sizes = log_n[:, None] + SIZES
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            losses = law.log_loss(sizes, per_flop[:, None] - sizes, log_unique)
        best = np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=1)
        log_n = sizes[np.arange(len(sizes)), best]
    return _split(law, log_n, per_flop, log_unique)


def _split(law: LawDraws, log_n: Array, per_flop: Array, log_unique: Array | None) -> Split:
    log_d = per_flop - log_n
    losses = law.log_loss(log_n[:, None], log_d[:, None], log_unique)[:, 0]
    return Split(log_n, log_d, per_flop + np.log(allocation.FLOPS_PER_PARAM_TOKEN), losses)


def _budget_for(law: LawDraws, loss: Array, limits: Constraints) -> Array:
    """ln of the least budget (S,) that reaches a loss (S,); infinite where none does."""
    if limits.unique_tokens is None and limits.params is None:
        with np.errstate(divide="ignore"):
            return np.log(allocation.flops_for(law.theta, loss))
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = np.log(loss)
    reached = np.stack(
        [_best(law, np.full(len(loss), log_c), limits).log_loss for log_c in BUDGETS], axis=1
    )  # (S, budgets)
    least = np.minimum.accumulate(np.where(np.isfinite(reached), reached, np.inf), axis=1)
    enough = least <= goal[:, None]
    first = np.argmax(enough, axis=1)
    row = np.arange(len(loss))
    before = np.maximum(first - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (least[row, before] - goal) / (least[row, before] - least[row, first])
    log_c = BUDGETS[before] + np.clip(np.nan_to_num(share), 0, 1) * (BUDGETS[first] - BUDGETS[before])
    return np.where(enough.any(axis=1), log_c, np.inf)


def _tell(law: LawDraws, split: Split, limits: Constraints, *, fixed_budget: bool) -> Plan:
    reached = _reached(law, split, limits) if fixed_budget else split.log_loss
    unique = limits.unique_tokens
    epochs = np.maximum(np.exp(split.log_d) / unique, 1.0) if unique else np.ones_like(split.log_d)
    pace = limits.tokens_per_second or law.tokens_per_second
    heard = np.minimum(np.exp(split.log_d), unique or np.inf)  # unique audio, not listening time
    flops = np.exp(split.log_c)
    largest = law.largest
    planned = {"params": np.exp(split.log_n[0]), "tokens": np.exp(split.log_d[0]), "flops": flops[0]}
    beyond = {name: float(planned[name] / largest[name]) for name in planned if name in largest}
    loss = np.exp(reached)
    return Plan(
        law=law.name,
        flops=_estimate(flops),
        params=_estimate(np.exp(split.log_n)),
        tokens=_estimate(np.exp(split.log_d)),
        epochs=_estimate(epochs),
        unique_tokens=unique,
        loss=_estimate(loss),
        scores={name: _estimate(_score(curve, loss)) for name, curve in law.scores.items()},
        audio_hours=_estimate(heard / pace / 3600) if pace else None,
        gpu=_gpu(flops, limits),
        beyond=beyond,
        notes=_notes(law, split, limits, beyond),
    )


def _reached(law: LawDraws, split: Split, limits: Constraints) -> Array:
    """ln L (S,) that each row of the law expects of the first row's split."""
    unique = None if limits.unique_tokens is None else np.log([limits.unique_tokens])
    return law.log_loss(split.log_n[:1], split.log_d[:1], unique)[:, 0]


def _score(curve: SaturatingCurves, loss: Array) -> Array:
    rows = np.arange(max(len(loss), len(curve.curves)))
    midpoint, steepness, ceiling = curve.curves[rows % len(curve.curves)].T
    return logistic(-loss[rows % len(loss)], curve.floor, midpoint, steepness, ceiling)


def _estimate(rows: Array) -> Estimate:
    """The first row, with the interval of the others."""
    given = np.ptp(rows) <= ROUNDING * abs(rows[0])  # a number that was given has no interval
    spread = None if given else percentile_interval(rows[1:])
    return Estimate(value=float(rows[0]), interval95=(spread[0], spread[1]) if spread else None)


def _gpu(flops: Array, limits: Constraints) -> Gpu | None:
    if limits.gpu is None:
        return None
    hours = flops / (gpu_flops(limits.gpu) * limits.mfu) / 3600
    cost = None if limits.price is None else _estimate(hours * limits.price)
    return Gpu(name=limits.gpu, mfu=limits.mfu, hours=_estimate(hours), cost=cost)


def _notes(law: LawDraws, split: Split, limits: Constraints, beyond: dict[str, float]) -> list[str]:
    notes = (
        []
        if law.draws
        else [f"{law.name} was published without uncertainty, so nothing here has an interval."]
    )
    far = {name: factor for name, factor in beyond.items() if factor > LITTLE_TRUST}
    if far:
        told = ", ".join(f"{name} {factor:.3g} times" for name, factor in far.items())
        notes.append(
            f"Far beyond the fitted runs ({told} the largest): a forecast of the law, not of experience."
        )
    elif not beyond:
        notes.append(
            "How far this reaches beyond the fitted runs is not known: their range was not published."
        )
    if limits.unique_tokens is not None:
        notes.append(_growth(law, split, limits))
    return notes


def _growth(law: LawDraws, split: Split, limits: Constraints) -> str:
    """How a further tenfold compute should be split between parameters and epochs."""
    assert limits.unique_tokens is not None
    if limits.params is not None or np.exp(split.log_d[0]) < limits.unique_tokens:
        return "The unique tokens are not used up at this budget." if limits.params is None else "N is fixed."
    larger = _best(law, split.log_c + np.log(10.0), limits)
    params, epochs = (
        float(np.exp(after[0] - now[0]))
        for after, now in ((larger.log_n, split.log_n), (larger.log_d, split.log_d))
    )
    more = "parameters" if params > epochs else "epochs"
    return (
        f"The data is repeated. Of ten times this compute, {params:.2g} times would go to parameters and {epochs:.2g} "
        f"times to epochs: from here on, more {more} beat more {'epochs' if more == 'parameters' else 'parameters'}."
    )


def parse_goal(text: str) -> tuple[str, float]:
    """("sblimp", 0.8) of "sblimp=0.8" or "sblimp=80".

    Raises:
        UserError: not of this form.
    """
    score, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise UserError(f"--target {text!r}: a score and a number are wanted, as in sblimp=0.8.") from None
    return score.strip(), value / 100 if value > 1 else value


def tell(plan: Plan) -> str:
    """The plan in words and columns, for the terminal."""
    rows = [("compute", plan.flops, "FLOPs"), ("parameters", plan.params, "N"), ("tokens", plan.tokens, "D")]
    if plan.unique_tokens is not None:
        rows.append(("epochs", plan.epochs, f"over {plan.unique_tokens:.3g} unique tokens"))
    rows.append(("loss", plan.loss, "nats per token"))
    rows += [(name, score, "") for name, score in plan.scores.items()]
    if plan.audio_hours is not None:
        rows.append(("audio", plan.audio_hours, "hours of speech to collect"))
    if plan.gpu is not None:
        rows.append(("GPU time", plan.gpu.hours, f"hours of one {plan.gpu.name} at {plan.gpu.mfu:.0%} MFU"))
        if plan.gpu.cost is not None:
            rows.append(("cost", plan.gpu.cost, "in the currency of --price"))
    lines = [f"by the law of {plan.law}"]
    for name, estimate, unit in rows:
        low_high = "" if estimate.interval95 is None else "[{:.4g}, {:.4g}]".format(*estimate.interval95)
        lines.append(f"  {name:<14}{estimate.value:>12.4g}  {low_high:<26}{unit}".rstrip())
    lines += [
        f"  {factor:.3g} times the largest {name} of the fitted runs" for name, factor in plan.beyond.items()
    ]
    return "\n".join(lines + [f"  {note}" for note in plan.notes])


def tell_next(runs: list[Run]) -> str:
    """The runs worth making next, for the terminal."""
    lines = [f"  {'parameters':>12}{'tokens':>12}{'FLOPs':>12}  standard error of the forecast afterwards"]
    lines += [
        f"  {r.params:>12.4g}{r.tokens:>12.4g}{r.flops:>12.4g}  {r.forecast_se:.3%} of loss" for r in runs
    ]
    return "\n".join(lines)


def plan_next(law: LawDraws, count: int, flops: float, forecast_flops: float | None = None) -> list[Run]:
    """The further runs that tell most about the best loss at a budget; see `laws.design.choose_runs`."""
    design = choose_runs(law, count, flops, forecast_flops)
    return [
        Run(params=c.params, tokens=c.tokens, flops=c.flops, forecast_se=after)
        for c, after in zip(design.chosen, design.after, strict=True)
    ]
