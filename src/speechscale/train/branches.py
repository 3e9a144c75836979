"""Trunks and branches: of runs that differ in their budget alone, the shorter leave the longest where they decay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from speechscale.train.spec import RunSpec


def with_trunks(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """The same runs with `trunk`, `keep` and a common warm-up set, every trunk before its branches.

    The longest run of a family (same size, data, recipe and seed) is the trunk of the others. All warm up as long as
    the rule asks of the shortest, unless the runs say how long. Runs of schedule `cosine` stay as they are.
    """
    families: dict[str, list[RunSpec]] = {}
    for run in runs:
        families.setdefault(_family(run), []).append(run)
    grown = [_grow(family) for family in families.values()]
    return [family[0] for family in grown] + [run for family in grown for run in family[1:]]


def flops_of_all(runs: Iterable[RunSpec], vocabulary: int) -> float:
    """6 N D of all steps that are made, those of a trunk once.

    A branch makes only the steps after it left its trunk.
    """
    return sum(run.shape(vocabulary).flops(tokens_trained(run)) for run in runs)


def tokens_trained(run: RunSpec) -> int:
    """Tokens of the steps that the run itself makes."""
    start = 0 if run.trunk is None else run.decay_start
    return (run.steps - start) * run.batch * run.context


def _family(run: RunSpec) -> str:
    """Runs of one key can share a trunk; a cosine run is a family of its own."""
    if run.schedule != "wsd":
        return run.run
    shared = {key: value for key, value in run.trunk_of().items() if key != "warmup_steps"}
    return json.dumps({**shared, "warmup": run.warmup}, sort_keys=True)


def _grow(family: list[RunSpec]) -> list[RunSpec]:
    if len(family) == 1:
        return family
    shortest, *_, longest = by_length = sorted(family, key=lambda run: run.steps)
    shared = {"warmup": shortest.warmup_steps}
    keep = tuple(sorted({run.decay_start for run in by_length[:-1]} - {0}))
    trunk = longest.model_copy(update={**shared, "keep": keep})
    branches = [
        run.model_copy(update={**shared, "trunk": longest.run if run.decay_start else None})
        for run in by_length[:-1]
    ]
    return [trunk, *reversed(branches)]
