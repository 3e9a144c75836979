"""Plans in words and columns, for the terminal."""

from __future__ import annotations

from speechscale.cli.format_law import format_checks
from speechscale.records.plan import Estimate, FurtherRuns, Plan


def format_plan(plan: Plan) -> str:
    """Every number of the plan with its interval, its notes, and the checks of its law."""
    pooled = f", pooled over {plan.members} forms of it" if plan.members > 1 else ""
    lines = [f"by the law of {plan.law}{pooled}", *(_row(*row) for row in _rows(plan))]
    lines += [
        f"  {name} beyond the fitted runs by a factor of {factor:.3g}" for name, factor in plan.beyond.items()
    ]
    lines += [f"  {note}" for note in plan.notes]
    return "\n".join([*lines, *format_checks(plan.law_checks)])


def format_further_runs(further: FurtherRuns) -> str:
    """The runs to make next, and the checks of the law that they were chosen by."""
    lines = [f"  {'parameters':>12}{'tokens':>12}{'FLOPs':>12}  standard error of the forecast afterwards"]
    lines += [
        f"  {run.params:>12.4g}{run.tokens:>12.4g}{run.flops:>12.4g}  {run.forecast_se:.3%} of loss"
        for run in further.runs
    ]
    return "\n".join([*lines, *format_checks(further.law_checks)])


def _rows(plan: Plan) -> list[tuple[str, Estimate, str]]:
    """Name, estimate and unit of every number."""
    rows = [("compute", plan.flops, "FLOPs"), ("parameters", plan.params, "N"), ("tokens", plan.tokens, "D")]
    if plan.unique_tokens is not None:
        rows.append(("epochs", plan.epochs, f"over {plan.unique_tokens:.3g} unique tokens"))
    rows.append(("loss", plan.loss, "nats per token, of a new run"))
    if plan.loss.law_interval95 is not None:
        of_law = Estimate(value=plan.loss.value, interval95=plan.loss.law_interval95)
        rows.append(("", of_law, "of the mean of such runs"))
    for name, score in plan.scores.items():
        rows.append((name, score, "of a new run"))
        if score.law_interval95 is not None:
            of_law = Estimate(value=score.value, interval95=score.law_interval95)
            rows.append(("", of_law, "of the mean of such runs"))
    if plan.audio_hours is not None:
        rows.append(("audio", plan.audio_hours, "hours of speech to collect"))
    if plan.gpu is not None:
        rows.append(("GPU time", plan.gpu.hours, f"hours of one {plan.gpu.name} at {plan.gpu.mfu:.0%} MFU"))
        if plan.gpu.cost is not None:
            rows.append(("cost", plan.gpu.cost, "in the currency of --price"))
    return rows


def _row(name: str, estimate: Estimate, unit: str) -> str:
    interval = "" if estimate.interval95 is None else "[{:.4g}, {:.4g}]".format(*estimate.interval95)
    return f"  {name:<14}{estimate.value:>12.4g}  {interval:<26}{unit}".rstrip()
