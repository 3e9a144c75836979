"""Trunks and branches: the results of separate runs of the same schedule, for fewer FLOPs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechscale.errors import UserError
from speechscale.records.shards import Shard
from speechscale.train.branches import assign_trunks, total_flops
from speechscale.train.checkpoint import MODEL, list_checkpoints
from speechscale.train.loop import train_run
from speechscale.train.spec import RunSpec

UPDATE = 4 * 32  # tokens


@pytest.fixture
def family(spec: RunSpec) -> list[RunSpec]:
    """Three budgets of one size."""
    lengths = {"short": 10, "middle": 15, "long": 20}
    return [
        spec.model_copy(update={"run": name, "schedule": "wsd", "tokens": steps * UPDATE, "curve": 0})
        for name, steps in lengths.items()
    ]


def test_longest_run_is_the_trunk_and_keeps_the_checkpoints_of_its_branches(family: list[RunSpec]) -> None:
    trunk, *branches = assign_trunks(family)
    assert (trunk.run, trunk.trunk, trunk.keep) == ("long", None, (8, 12))
    assert [(run.run, run.trunk, run.decay_start) for run in branches] == [
        ("middle", "long", 12),
        ("short", "long", 8),
    ]
    assert {run.warmup for run in (trunk, *branches)} == {1}  # the rule for ten steps
    per_update = trunk.shape(18).flops(UPDATE)
    assert total_flops(family, 18) == pytest.approx((10 + 15 + 20) * per_update)
    assert total_flops([trunk, *branches], 18) == pytest.approx((20 + 3 + 2) * per_update)


def test_only_wsd_runs_of_one_seed_share_a_trunk(family: list[RunSpec], spec: RunSpec) -> None:
    other_seed = [
        run.model_copy(update={"run": f"{run.run}-1", "seed": 1}) for run in family if run.run != "middle"
    ]
    assigned = assign_trunks([*family, *other_seed, spec])
    assert spec in assigned  # a cosine
    assert [run.run for run in assigned if run.trunk is None] == ["long", "long-1", "tiny"]
    assert {run.trunk for run in assigned if run.seed == 1} == {None, "long-1"}


def test_branch_equals_a_separate_run_of_the_same_schedule_bit_for_bit(
    family: list[RunSpec], shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    trunk, *branches = assign_trunks(family)
    train_run(trunk, shards, test_shards, tmp_path / trunk.run)
    assert list(list_checkpoints(tmp_path / trunk.run)) == [8, 12]  # and no others, once it is done
    for branch in branches:
        branched = train_run(branch, shards, test_shards, tmp_path / branch.run)
        alone = branch.model_copy(update={"trunk": None})
        separate = train_run(alone, shards, test_shards, tmp_path / "alone" / branch.run)
        assert (branched.loss, branched.tokens, branched.flops) == (
            separate.loss,
            separate.tokens,
            separate.flops,
        )
        assert branched.flops_spent == pytest.approx(0.2 * branched.flops)
        assert separate.flops_spent == separate.flops
        ours = load_file(tmp_path / branch.run / MODEL)
        theirs = load_file(tmp_path / "alone" / branch.run / MODEL)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_branch_without_a_matching_trunk_is_refused(
    family: list[RunSpec], shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    trunk, branch, *_ = assign_trunks(family)
    with pytest.raises(UserError, match="the trunk left no checkpoint there; train it first, with 12 among"):
        train_run(branch, shards, test_shards, tmp_path / branch.run)
    train_run(trunk, shards, test_shards, tmp_path / trunk.run)
    other = branch.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match=r"trunk\.seed: found 0, wanted 1"):
        train_run(other, shards, test_shards, tmp_path / "other")
