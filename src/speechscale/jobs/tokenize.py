"""Unigram tokens of shards, learnt and written by workers."""

from __future__ import annotations

from pathlib import Path

from speechscale.jobs.encode import summarize_shards
from speechscale.records.shards import is_written, open_shards
from speechscale.tokens.unigram import (
    UnigramTask,
    is_learnt,
    learn_unigram,
    plan_tokens,
    write_tokens,
)
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks


def learn_tokens(task: UnigramTask) -> str:
    """Learn tokens in a worker, unless they are learnt already."""
    if is_learnt(task):
        return f"{task.spec.vocabulary} tokens, learnt before."
    ((_, units),) = run_tasks(learn_unigram, [task], label="learning tokens", backend=LocalBackend(1))
    return f"{task.spec.vocabulary} tokens learnt from {units} units."


def tokenise(shards: Path, unigram: Path, out: Path, workers: int) -> str:
    """Write the shards of tokens that do not stand yet.

    Raises:
        UserError: one stands that was made from something else.
    """
    tasks = plan_tokens(shards, unigram, out)
    missing = [task for task in tasks if not is_written(task.folder, task.preprocessing)]
    for _ in run_tasks(write_tokens, missing, label="units to tokens", backend=LocalBackend(workers)):
        pass
    units, tokens = summarize_shards(open_shards(shards)), summarize_shards(open_shards(out))
    per_token = (units.units - units.samples) / max(1, tokens.units - tokens.samples)
    return (
        f"{tokens.samples} utterances, {tokens.units} tokens (EOS included) in {tokens.shards} shards; "
        f"{per_token:.2f} units per token."
    )
