"""Training of a unigram tokenizer and tokenization of shards, in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from speechscale.compute import available_cores
from speechscale.jobs.encode import summarize_shards
from speechscale.records.shards import is_written, open_shards
from speechscale.tokens.unigram import (
    UnigramSpec,
    UnigramTrainingTask,
    is_trained,
    plan_token_shards,
    train_unigram_task,
    write_token_shard,
)
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks

__all__ = ["UnigramSpec", "tokenize", "tokenize_shards", "train_tokenizer"]


def tokenize(
    shards: Path,
    out: Path,
    tokenizer: Path | UnigramSpec,
    *,
    workers: int | None,
    report: Callable[[str], None],
) -> None:
    """Tokenize shards of units; a tokenizer that does not exist yet is trained on them first.

    Args:
        shards: folder of shards of units.
        out: folder of the token shards; existing shards are kept.
        tokenizer: folder of a trained tokenizer, or the options to train one with, into `out`/unigram.
        workers: number of processes; one per core when None.
        report: called with a sentence after training and after tokenization.

    Raises:
        UserError: the tokenizer does not fit the units, or an existing artefact was made from something else.
    """
    folder = out / "unigram" if isinstance(tokenizer, UnigramSpec) else tokenizer
    if isinstance(tokenizer, UnigramSpec):
        report(f"{folder}: {train_tokenizer(UnigramTrainingTask(shards, tokenizer, folder))}")
    report(f"{out}: {tokenize_shards(shards, folder, out, workers or available_cores())}")


def train_tokenizer(task: UnigramTrainingTask) -> str:
    """Train a tokenizer in a worker, unless it exists already; returns a sentence about it.

    Raises:
        UserError: the vocabulary does not fit the units, or an existing tokenizer was made from something else.
    """
    if is_trained(task):
        return f"{task.spec.vocabulary} tokens, trained before."
    ((_, units),) = run_tasks(train_unigram_task, [task], label="training tokenizer", backend=LocalBackend(1))
    return f"{task.spec.vocabulary} tokens, trained on {units} units."


def tokenize_shards(shards: Path, tokenizer: Path, out: Path, workers: int) -> str:
    """Write the token shards that do not exist yet; returns a summary.

    Args:
        shards: folder of shards of units.
        tokenizer: folder of the trained tokenizer.
        out: folder of the token shards.
        workers: number of processes.

    Raises:
        UserError: the tokenizer was trained on other units, or an existing shard was made from something else.
    """
    tasks = plan_token_shards(shards, tokenizer, out)
    missing = [task for task in tasks if not is_written(task.folder, task.preprocessing)]
    for _ in run_tasks(write_token_shard, missing, label="units to tokens", backend=LocalBackend(workers)):
        pass
    units, tokens = summarize_shards(open_shards(shards)), summarize_shards(open_shards(out))
    per_token = (units.units - units.samples) / max(1, tokens.units - tokens.samples)
    return (
        f"{tokens.samples} utterances, {tokens.units} tokens (EOS included) in {tokens.shards} shards; "
        f"{per_token:.2f} units per token."
    )
