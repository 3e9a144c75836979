"""Trunks and branches as the tasks of a ladder: what is done before what, and what a trunk may drop in the end."""

from __future__ import annotations

from collections.abc import Sequence

from speechscale.jobs.train_run import TrainingTask, is_done


def waves(tasks: Sequence[TrainingTask]) -> list[list[TrainingTask]]:
    """The tasks that need no other, then the branches, which begin with what their trunks leave."""
    return [[task for task in tasks if (task.spec.trunk is not None) == branch] for branch in (False, True)]


def prune_trunks(tasks: Sequence[TrainingTask]) -> None:
    """Remove the checkpoints of every trunk that is done and whose branches all are."""
    needed = {task.spec.trunk for task in tasks if not is_done(task)}
    for task in tasks:
        if task.spec.keep and task.spec.run not in needed and is_done(task):
            from speechscale.train.checkpoint import prune_checkpoints

            prune_checkpoints(task.folder, last=0, keep=())
