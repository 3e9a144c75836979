"""Shared training prefixes: of `wsd` runs that differ in budget only, the shorter branch off the longest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from speechscale.train.spec import RunSpec


def assign_trunks(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """The same runs with `trunk`, `keep` and a common warm-up set, every trunk before its branches.

    The longest run of a family (same size, data, recipe and seed) is the trunk of the others. All have the warm-up of
    the shortest, unless the runs set their own. Runs of schedule `cosine` are not changed.
    """
    families: dict[str, list[RunSpec]] = {}
    for run in runs:
        families.setdefault(_family_key(run), []).append(run)
    assigned = [_assign_trunk(family) for family in families.values()]
    return [family[0] for family in assigned] + [run for family in assigned for run in family[1:]]


def total_flops(runs: Iterable[RunSpec], vocabulary: int) -> float:
    """6 N D of all updates of these runs; those of a trunk count once.

    A branch makes only the updates after its trunk's checkpoint.
    """
    return sum(run.shape(vocabulary).flops(run.tokens_trained) for run in runs)


def _family_key(run: RunSpec) -> str:
    """Equal for runs that can share a trunk; a cosine run is a family of its own."""
    if run.schedule != "wsd":
        return run.run
    shared = {key: value for key, value in run.trunk_identity().items() if key != "warmup_steps"}
    return json.dumps({**shared, "warmup": run.warmup}, sort_keys=True)


def _assign_trunk(family: list[RunSpec]) -> list[RunSpec]:
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
