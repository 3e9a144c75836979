"""Trunks and branches of a WSD ladder as tasks: their order, and the checkpoints that are no longer needed."""

from __future__ import annotations

from collections.abc import Sequence

from speechscale.jobs.train_run import TrainingTask, is_done


def trunks_then_branches(tasks: Sequence[TrainingTask]) -> list[list[TrainingTask]]:
    """Two groups: tasks that depend on no other, then branches, which start from the checkpoints of their trunks."""
    return [[task for task in tasks if (task.spec.trunk is not None) == branch] for branch in (False, True)]


def prune_trunks(tasks: Sequence[TrainingTask]) -> None:
    """Remove the checkpoints of every trunk that is done and whose branches all are."""
    needed = {task.spec.trunk for task in tasks if not is_done(task)}
    for task in tasks:
        if task.spec.keep and task.spec.run not in needed and is_done(task):
            from speechscale.train.checkpoint import prune_checkpoints

            prune_checkpoints(task.folder, last=0, keep=())
