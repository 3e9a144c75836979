"""The runs of a study, most expensive first, and their cost."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.records.seeds import spawn_seed
from speechscale.study.spec import SPEECH, BudgetSpec, SeriesSpec, SizeSpec, StudySpec
from speechscale.train.branches import assign_trunks
from speechscale.train.spec import RunSpec


def ladder_runs(study: StudySpec) -> list[RunSpec]:
    """Every size with every budget, the most expensive first, so that no long run is left for the end.

    With the schedule `wsd`, the longest run of a size is a trunk and the others are its branches, after all trunks.

    Raises:
        UserError: two runs would have the same name and folder, or the warm-up does not fit into a run.
    """
    runs = [
        _run(study, series, size, tokens, unique)
        for series in study.series
        for size in study.ladder_of(series).sizes
        for tokens, unique in _budgets(study, series, size)
    ]
    names = [run.run for run in runs]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UserError(
            f"ladder: two sizes or budgets give a run of the same name ({', '.join(duplicates)}); remove one."
        )
    return sorted(
        assign_trunks(runs), key=lambda run: (run.trunk is not None, -flops_trained(study, run), run.run)
    )


def flops_trained(study: StudySpec, run: RunSpec) -> float:
    """Exact training FLOPs of the steps that the run itself makes; a branch starts from a checkpoint of its trunk."""
    return run.shape(study.vocabulary_of(run.series)).flops_exact(run.tokens_trained)


def unique_tokens(study: StudySpec, run: RunSpec) -> int | None:
    """Number of different tokens that a run may read; None where it is unknown before the corpus is made."""
    derived = {series.name for series in study.series if series.derived}
    of_corpus = study.corpus.unique_tokens if study.corpus and run.series not in derived else None
    return run.unique_tokens or of_corpus


def _budgets(study: StudySpec, series: SeriesSpec, size: SizeSpec) -> Iterator[tuple[int, int | None]]:
    """Tokens seen and the limit of unique tokens, for every run of a size."""
    for budget in study.ladder_of(series).budgets:
        yield _tokens(study, size, budget), budget.unique
    for steps in size.steps:
        yield steps * size.batch * study.ladder.context, None


def _tokens(study: StudySpec, size: SizeSpec, budget: BudgetSpec) -> int:
    if budget.tokens is not None:
        return budget.tokens
    if budget.tokens_per_parameter is not None:
        return round(budget.tokens_per_parameter * study.shape(size).params)
    unique = budget.unique or (study.corpus.unique_tokens if study.corpus else None)
    assert budget.epochs is not None and unique is not None  # guaranteed by the validation of the spec
    return round(budget.epochs * unique)


def _run(study: StudySpec, series: SeriesSpec, size: SizeSpec, tokens: int, unique: int | None) -> RunSpec:
    name = run_name(study.shape(size).params, tokens, unique)
    if series.name != SPEECH:
        name = f"{series.name}-{name}"
    try:
        return RunSpec(
            run=name,
            series=series.name,
            tokens=tokens,
            unique_tokens=unique,
            processes=size.processes or study.ladder.processes,
            corpora=study.corpus.mixture if study.corpus else (),
            seed=_seed(study, series, size, unique, name),
            **study.ladder.model_dump(exclude={"sizes", "budgets", "keep_trunks", "processes", "seed"}),
            **size.model_dump(exclude={"steps", "processes"}),
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"ladder: the run {name} is impossible: {reason}.") from error


def _seed(study: StudySpec, series: SeriesSpec, size: SizeSpec, unique: int | None, name: str) -> int:
    """A random stream of its own for each run, so that the errors of a ladder are independent, as its laws assume.

    Runs of schedule `wsd` that may share a trunk share its stream.
    """
    family = f"{study.shape(size).params} of {unique}" if study.ladder.schedule == "wsd" else name
    return spawn_seed(study.ladder.seed, series.name, family)


def run_name(params: int, tokens: int, unique: int | None) -> str:
    """`804k-2.56M` is 804 k parameters on 2.56 M tokens; `-of-320k` means at most 320 k unique tokens."""
    name = f"{_short(params)}-{_short(tokens)}"
    return name if unique is None else f"{name}-of-{_short(unique)}"


def _short(count: int) -> str:
    """A count with three digits and a suffix."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
