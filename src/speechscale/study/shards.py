"""The shards that the runs of a study read, and checks of input shards against the spec."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechscale.errors import UserError
from speechscale.jobs.train_run import TrainingTask
from speechscale.records.seal import write_json
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import (
    Shard,
    open_shards,
    require_same_encoding,
    shards_identity,
)
from speechscale.study.ladder import ladder_runs
from speechscale.study.spec import InputShardsSpec, StudySpec
from speechscale.tokens.mixture import Mixture, TrainingCorpus
from speechscale.workers.pool import Backend, run_tasks

_ROUNDING = 0.01  # a spec may say 10.89 B tokens where the shards hold some millions more or fewer


@dataclass(frozen=True)
class ShardFolders:
    """Absolute paths of shard folders. A mixture has several `train`; without `benchmarks` runs are not scored."""

    train: tuple[Path, ...]
    test: Path
    benchmarks: Path | None

    def shards(self) -> list[Shard]:
        """All of them, opened.

        Raises:
            UserError: a folder without shards, or with some missing.
        """
        folders = (*self.train, self.test, self.benchmarks)
        return [shard for folder in folders if folder is not None for shard in open_shards(folder)]


def input_shard_folders(corpus: InputShardsSpec) -> ShardFolders:
    """The folders that a spec names."""
    train = (corpus.train,) if corpus.train is not None else tuple(part.shards for part in corpus.mixture)
    benchmarks = None if corpus.benchmarks is None else Path(corpus.benchmarks).absolute()
    return ShardFolders(
        tuple(Path(folder).absolute() for folder in train), Path(corpus.test).absolute(), benchmarks
    )


def training_tasks(spec: StudySpec, shards: Mapping[str, ShardFolders], runs: Path) -> list[TrainingTask]:
    """The tasks of all runs, the most expensive first.

    Args:
        spec: the study.
        shards: shard folders by series.
        runs: parent of the folders of the runs.
    """
    tasks = []
    for run in ladder_runs(spec):
        folders = shards[run.series]
        corpora = tuple(
            part.model_copy(update={"shards": str(folder)})
            for part, folder in zip(run.corpora, folders.train, strict=bool(run.corpora))
        )
        train = () if corpora else folders.train
        run_spec = run.model_copy(update={"corpora": corpora})
        tasks.append(TrainingTask(run_spec, runs / run.run, train, folders.test, folders.benchmarks))
    return tasks


def check_input_shards(spec: StudySpec, corpus: InputShardsSpec) -> None:
    """Refuse input shards that differ from the spec or do not match each other, before any work.

    Raises:
        UserError: another vocabulary or number of unique tokens, folders with different encodings, test utterances in
            the training shards, or a corpus shorter than a window.
    """
    from speechscale.train.validate import require_held_out

    folders = input_shard_folders(corpus)
    limits = [part.unique_tokens for part in corpus.mixture] or [None]
    corpora = [
        TrainingCorpus(open_shards(folder), limit=limit)
        for folder, limit in zip(folders.train, limits, strict=True)
    ]
    first = corpora[0].shards[0]
    vocabulary = first.vocabulary_size
    if vocabulary != corpus.vocabulary:
        raise UserError(
            f"{spec.name}: corpus.vocabulary is {corpus.vocabulary}, but the shards in {folders.train[0]} have "
            f"{vocabulary} (units, EOS and padding); correct the spec, or name other shards."
        )
    Mixture(corpora, spec.ladder.context)
    for folder in (folders.test, folders.benchmarks):
        if folder is not None:
            require_same_encoding(open_shards(folder)[0], first)
    unique = sum(each.num_tokens for each in corpora)
    if abs(unique - corpus.unique_tokens) > _ROUNDING * unique:
        raise UserError(
            f"{spec.name}: corpus.unique_tokens is {corpus.unique_tokens:,}, but the training shards hold {unique:,} "
            "units; correct the spec, or name other shards."
        )
    require_held_out([shard for each in corpora for shard in each.shards], open_shards(folders.test))


def verify_shards(shards: Sequence[Shard], backend: Backend, receipt: Path | None = None) -> None:
    """Compare all shards with their hashes; once only, where a receipt file records that they were verified.

    Raises:
        UserError: a shard is damaged; the sentence names it.
    """
    content = {"shards": shards_identity(list(shards))}
    if (
        receipt is not None
        and receipt.exists()
        and json.loads(receipt.read_text(encoding="utf-8")) == content
    ):
        return
    folders = [shard.folder for shard in shards]
    for _ in run_tasks(verify_shard, folders, backend=backend, label="verify shards"):
        pass
    if receipt is not None:
        write_json(receipt, content)
