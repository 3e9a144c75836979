"""Planning with a law: the best use of a budget, and the budget that a goal takes, with intervals from the draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from speechscale.errors import UserError, nearest
from speechscale.laws.best_split import LOG_BUDGETS, Split, best_split, log_budget_for
from speechscale.laws.design import choose_runs
from speechscale.laws.draws import LawDraws
from speechscale.laws.estimates import DRAW_SEED, estimate, loss_estimate, score_estimate
from speechscale.laws.minimise import Array
from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN
from speechscale.records.gpus import gpu_flops
from speechscale.records.law_sections import Check
from speechscale.records.plan import FurtherRun, FurtherRuns, GpuEstimate, Plan

LOSS = "loss"  # the goal that is no score
FAR_BEYOND = 10.0  # factor beyond the fitted runs from which a note calls the forecast far
MANY_EPOCHS = (
    40.0  # from which a note says that repetitions are worth next to nothing (Muennighoff et al. 2023)
)


@dataclass(frozen=True)
class Constraints:
    """What is not free: the unique tokens, the model size, and the machine."""

    unique_tokens: float | None = None
    params: float | None = None
    gpu: str | None = None
    mfu: float = 0.4
    price: float | None = None  # of one GPU hour
    tokens_per_second: float | None = None  # of audio; that of the law when None


# Draws of a weak law may have no best split: their numbers overflow or are NaN, and intervals leave them out.
_ignore_nonfinite_draws = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@_ignore_nonfinite_draws
def plan_budget(law: LawDraws, flops: float, limits: Constraints = Constraints()) -> Plan:
    """The best use of a budget in FLOPs.

    The plan is the best split at the centre of the law. The intervals of N and D are those of the best split, and those
    of loss and scores are those of what this very plan reaches.

    Raises:
        UserError: a value that is not above zero, or constraints that the law cannot answer.
    """
    _require_valid(law, limits)
    if limits.params is None:
        law.require_best_split()
    if not (np.isfinite(flops) and flops > 0):
        raise UserError(f"a budget of {flops} FLOPs; a number above zero is wanted.")
    log_c = np.log(flops)
    split = _best_split(law, np.full(len(law.theta), log_c), replace(limits, unique_tokens=None))
    log_unique = None
    if limits.unique_tokens is not None and _exceeds(law, split, limits.unique_tokens):
        law = law.with_repeated_data()
        split = _best_split(law, np.full(len(law.theta), log_c), limits)
        log_unique = np.log([limits.unique_tokens])
    central = _central_split(law, split)
    reached = law.log_loss(central.log_n[None], central.log_d[None], log_unique)[:, 0]
    return _to_plan(law, split, limits, reached)


@_ignore_nonfinite_draws
def plan_target(law: LawDraws, score: str, goal: float, limits: Constraints = Constraints()) -> Plan:
    """The least budget whose best use is expected to reach a score.

    Args:
        law: the law with draws.
        score: name of the score, or "loss".
        goal: the score wanted, in [0, 1], or the loss, in nats per token.
        limits: what is not free.

    Raises:
        UserError: the law has no answer, and why.
    """
    _require_valid(law, limits)
    if limits.params is None:
        law.require_best_split()
    if score == LOSS:
        return _plan_loss(law, goal, limits)
    if score in law.published_scores:
        return _plan_published(law, score, goal, limits)
    if score not in law.scores:
        scores = {*law.scores, *law.published_scores}
        known = ", ".join(sorted(scores)) or "no score at all"
        raise UserError(
            f"the law of {law.name} has no rising curve for {score!r}{nearest(score, scores)}; it has {known}."
        )
    curve = law.scores[score]
    ceiling = float(np.median(curve.curves[: curve.points, 2]))
    if not curve.floor < goal < ceiling:
        raise UserError(
            f"{score}={goal:g} cannot be planned for: by this law the score is between chance ({curve.floor:g}) and "
            f"its ceiling ({ceiling:.3g})."
        )
    central = -curve.centre_at(goal)
    drawn = np.random.default_rng(DRAW_SEED).permutation(-curve.drawn_at(goal))

    def losses(law: LawDraws) -> Array:
        needed = np.concatenate([np.full(law.points, central), np.resize(drawn, law.draws)])
        return np.where(np.isfinite(needed), needed, -np.inf)

    plan = _plan_least_budget(law, losses, limits)
    if plan is None:
        raise UserError(_unreachable(law, score, goal, central, limits))
    return plan


def _plan_published(law: LawDraws, score: str, goal: float, limits: Constraints) -> Plan:
    """The budget by a published power law of the score in compute, and its best use by the law of the loss."""
    published = law.published_scores[score]
    plan = plan_budget(law, published.flops_for(goal), limits)
    message = (
        f"{score} is taken to grow as C^{published.gamma:g} from the best published model, without saturation; no "
        "interval was published, so the budget has none"
    )
    return plan.model_copy(update={"law_checks": [*plan.law_checks, Check.of("published score", message)]})


def _plan_loss(law: LawDraws, goal: float, limits: Constraints) -> Plan:
    _require_positive("a loss", goal)
    plan = _plan_least_budget(law, lambda law: np.full(len(law.theta), goal), limits)
    if plan is None:
        least = _least_log_loss(law, limits)
        raise UserError(
            f"loss={goal:g} is beyond the law of {law.name}: no budget is enough; the least loss that it reaches with "
            f"any budget is {np.exp(least):.4g}."
        )
    return plan


def _plan_least_budget(
    law: LawDraws, losses: Callable[[LawDraws], Array], limits: Constraints
) -> Plan | None:
    """The least budget that reaches a loss, for every row of a law (S,); None where no budget is enough.

    The law of repeated data answers where the single-epoch law would need more than the unique tokens.
    """
    once = replace(limits, unique_tokens=None)
    log_c = _log_budget_for(law, losses(law), once)
    reached = np.isfinite(law.centre(log_c))
    split = _best_split(law, log_c, once) if reached else None
    unique = limits.unique_tokens
    if unique is not None and (split is None or _exceeds(law, split, unique)):
        law = law.with_repeated_data()
        log_c = _log_budget_for(law, losses(law), limits)
        reached = np.isfinite(law.centre(log_c))
        split = _best_split(law, log_c, limits) if reached else None
    return None if split is None else _to_plan(law, split, limits, split.log_loss)


@_ignore_nonfinite_draws
def plan_run(law: LawDraws, params: float, tokens: float, limits: Constraints = Constraints()) -> Plan:
    """What a run of N parameters and D tokens is expected to reach.

    Args:
        law: the law with draws.
        params: N.
        tokens: D.
        limits: the unique tokens, and the machine; `limits.params` is not read.

    Raises:
        UserError: a value that is not above zero, or unique tokens that the law cannot answer for.
    """
    for name, value in (("params", params), ("tokens", tokens)):
        _require_positive(name, value)
    _require_valid(law, limits)
    log_unique = None
    if limits.unique_tokens is not None and tokens > limits.unique_tokens:
        law, log_unique = law.with_repeated_data(), np.log([limits.unique_tokens])
    log_n, log_d = (np.full(len(law.theta), np.log(value)) for value in (params, tokens))
    losses = law.log_loss(log_n[:1], log_d[:1], log_unique)[:, 0]
    split = Split(log_n, log_d, log_n + log_d + np.log(FLOPS_PER_PARAM_TOKEN), losses)
    return _to_plan(law, split, limits, losses)


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


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise UserError(f"{name} of {value:g}; a number above zero is wanted.")


def _require_falling(law: LawDraws) -> None:
    """Refuse a law whose loss does not fall with model size and with data: it has no best split of a budget."""
    for name, exponents in zip(("alpha", "beta"), law.theta[: law.points, 3:5].T, strict=True):
        exponent = float(exponents.min())
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
    return best_split(law, log_c, limits.unique_tokens, limits.params)


def _log_budget_for(law: LawDraws, loss: Array, limits: Constraints) -> Array:
    """Ln of the least budget (S,) that reaches a loss (S,); infinite where none does."""
    return log_budget_for(law, loss, limits.unique_tokens, limits.params)


def _to_plan(law: LawDraws, split: Split, limits: Constraints, log_loss: Array) -> Plan:
    """The plan at the centre of the law, with intervals from its draws.

    Args:
        law: the law with draws.
        split: the best split by every row.
        limits: what is not free.
        log_loss: ln L (R,) from which loss and scores follow.
    """
    unique = limits.unique_tokens
    central = _central_split(law, split)
    log_unique = np.log(unique) if unique else np.inf
    rate = limits.tokens_per_second or law.tokens_per_second
    # Repetitions need no further audio.
    log_hours = np.minimum(split.log_d, log_unique) - np.log(3600 * rate) if rate else None
    planned = {
        "params": float(np.exp(central.log_n)),
        "tokens": float(np.exp(central.log_d)),
        "flops": float(np.exp(central.log_c)),
    }
    if unique:
        planned["epochs"] = max(planned["tokens"] / unique, 1.0)
    beyond = law.beyond(planned)
    return Plan(
        law=law.name,
        members=law.points,
        flops=estimate(law, split.log_c),
        params=estimate(law, split.log_n),
        tokens=estimate(law, split.log_d),
        epochs=estimate(law, np.maximum(split.log_d - log_unique, 0.0)),
        unique_tokens=unique,
        loss=loss_estimate(law, log_loss),
        scores={name: score_estimate(law, curve, log_loss) for name, curve in law.scores.items()},
        audio_hours=None if log_hours is None else estimate(law, log_hours),
        gpu=_gpu_estimate(law, split.log_c, limits),
        beyond=beyond,
        backtested=law.backtested,
        notes=_notes(law, central, limits, beyond),
        law_checks=law.checks,
    )


def _exceeds(law: LawDraws, split: Split, unique_tokens: float) -> bool:
    """Whether a split sees more tokens than there are unique ones."""
    return bool(_central_split(law, split).log_d > np.log(unique_tokens))


@dataclass(frozen=True)
class CentralSplit:
    """Ln of parameters, tokens and FLOPs at the centre of a law."""

    log_n: Array  # ()
    log_d: Array
    log_c: Array


def _central_split(law: LawDraws, split: Split) -> CentralSplit:
    """The median best size over the fitted laws, and the tokens that the median budget leaves it."""
    log_n, log_c = law.centre(split.log_n), law.centre(split.log_c)
    return CentralSplit(log_n, log_c - np.log(FLOPS_PER_PARAM_TOKEN) - log_n, log_c)


def _gpu_estimate(law: LawDraws, log_flops: Array, limits: Constraints) -> GpuEstimate | None:
    if limits.gpu is None:
        return None
    log_hours = log_flops - np.log(gpu_flops(limits.gpu) * limits.mfu * 3600)
    cost = None if limits.price is None else estimate(law, log_hours + np.log(limits.price))
    return GpuEstimate(name=limits.gpu, mfu=limits.mfu, hours=estimate(law, log_hours), cost=cost)


def _notes(law: LawDraws, split: CentralSplit, limits: Constraints, beyond: dict[str, float]) -> list[str]:
    notes = []
    if not law.draws:
        notes.append(f"{law.name} was published without uncertainty, so nothing here has an interval.")
    elif not law.backtested:
        notes.append("Not backtested: no forecast of this law was compared with dearer runs.")
    far = {name: factor for name, factor in beyond.items() if factor > FAR_BEYOND}
    if far:
        factors = ", ".join(f"{name} by a factor of {factor:.3g}" for name, factor in far.items())
        notes.append(f"Far beyond the fitted runs ({factors}): a forecast of the law, not of experience.")
    elif not law.largest:
        notes.append(
            "How far this is beyond the fitted runs is not known, because their range was not published."
        )
    if limits.unique_tokens is not None:
        notes += _repetition_notes(law, split, limits, limits.unique_tokens)
    return notes


def _repetition_notes(
    law: LawDraws, split: CentralSplit, limits: Constraints, unique_tokens: float
) -> list[str]:
    """How often the data is repeated, and how ten times the compute is best split between parameters and epochs."""
    epochs = float(np.exp(split.log_d)) / unique_tokens
    if epochs <= 1:
        return ["The unique tokens are not used up at this budget."]
    notes = []
    if epochs > MANY_EPOCHS:
        notes.append(
            f"{epochs:,.0f} epochs: repetitions beyond about {MANY_EPOCHS:.0f} were found to be worth next to nothing "
            "(Muennighoff et al. 2023); collect more data, or spend less."
        )
    if limits.params is not None:
        return [*notes, "N is fixed."]
    larger = _best_split(law, np.full(len(law.theta), split.log_c + np.log(10.0)), limits)
    params = float(np.exp(law.centre(larger.log_n) - split.log_n))
    more_epochs = float(np.exp(law.centre(larger.log_d) - split.log_d))
    more, less = ("parameters", "epochs") if params > more_epochs else ("epochs", "parameters")
    return [
        *notes,
        f"The data is repeated. Of ten times this compute, {params:.2g} times would go to parameters and "
        f"{more_epochs:.2g} times to epochs: from here on, more {more} beat more {less}.",
    ]


def _unreachable(law: LawDraws, score: str, goal: float, loss: float, limits: Constraints) -> str:
    """Why no budget reaches a score, with the highest score that one reaches."""
    limited = " with these unique tokens or this size" if limits.unique_tokens or limits.params else ""
    least = _least_log_loss(law, limits)
    curve = law.scores[score]
    highest = float(curve.centre(-np.exp(np.atleast_1d(least)))[0])
    takes = f" It takes a loss of {loss:.4g}, and" if loss > 0 else " No loss is low enough, and"
    return (
        f"{score}={goal:g} is beyond the law of {law.name}{limited}: no budget is enough.{takes} the highest score "
        f"that this law reaches with any budget is {highest:.3g}, at a loss of {np.exp(least):.4g}."
    )


def _least_log_loss(law: LawDraws, limits: Constraints) -> float:
    """Ln of the loss at the largest budget that is searched."""
    law = law if limits.unique_tokens is None else law.with_repeated_data()
    split = _best_split(law, np.full(len(law.theta), LOG_BUDGETS[-1]), limits)
    return float(law.centre(split.log_loss))
