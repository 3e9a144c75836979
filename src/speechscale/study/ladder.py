"""Which runs a study makes, largest first, and what they cost."""

from __future__ import annotations

from speechscale.errors import UserError
from speechscale.study.spec import BudgetSpec, SizeSpec, StudySpec
from speechscale.train.spec import RunSpec


def ladder_runs(study: StudySpec) -> list[RunSpec]:
    """Every size with every budget, the dearest first, so that no long run is left for the end.

    Raises:
        UserError: two runs would share a name, and so a folder.
    """
    runs = [_run(study, size, budget) for size in study.ladder.sizes for budget in study.ladder.budgets]
    names = [run.run for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"ladder: two sizes or budgets make a run of the same name ({', '.join(twice)}); leave one out."
        )
    vocabulary = study.units.kmeans.clusters + 2
    return sorted(runs, key=lambda run: (-run.shape(vocabulary).flops_exact(run.tokens), run.run))


def _run(study: StudySpec, size: SizeSpec, budget: BudgetSpec) -> RunSpec:
    ladder = study.ladder
    return RunSpec(
        run=run_name(study.shape(size).params, budget),
        context=ladder.context,
        tokens=budget.tokens,
        unique_tokens=budget.unique,
        hidden_multiple=ladder.hidden_multiple,
        weight_decay=ladder.weight_decay,
        preset=ladder.preset,
        precision=ladder.precision,
        seed=ladder.seed,
        curve=ladder.curve,
        checkpoint_steps=ladder.checkpoint_steps,
        **size.model_dump(),
    )


def run_name(params: int, budget: BudgetSpec) -> str:
    """`0.80M-3.00M` is 0.80 M parameters on 3.00 M tokens; `-of-0.50M` when the corpus was limited."""
    name = f"{_short(params)}-{_short(budget.tokens)}"
    return name if budget.unique is None else f"{name}-of-{_short(budget.unique)}"


def _short(count: int) -> str:
    """Three digits and a unit."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
