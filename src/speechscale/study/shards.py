"""The shards that a study's runs read: its own, or those it was given, which must be what its file says, and whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechscale.errors import UserError
from speechscale.jobs.train_run import TrainingTask
from speechscale.records.seal import differing_fields, write_json
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import Shard, encoding_of, open_shards, shards_identity
from speechscale.study.ladder import ladder_runs
from speechscale.study.spec import CorpusSpec, StudySpec
from speechscale.tokens.mixture import Corpus, Mixture
from speechscale.workers.pool import Backend, run_tasks

_ROUNDED = 0.01  # a study may be planned with 10.89 B, where the shards hold some millions more or less


@dataclass(frozen=True)
class ShardFolders:
    """Absolute paths. `train` has several when they are mixed; without `benchmarks` runs are not scored."""

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


def given_folders(corpus: CorpusSpec) -> ShardFolders:
    train = (corpus.train,) if corpus.train is not None else tuple(part.shards for part in corpus.mixture)
    benchmarks = None if corpus.benchmarks is None else Path(corpus.benchmarks).absolute()
    return ShardFolders(
        tuple(Path(folder).absolute() for folder in train), Path(corpus.test).absolute(), benchmarks
    )


def training_tasks(spec: StudySpec, shards: Mapping[str, ShardFolders], runs: Path) -> list[TrainingTask]:
    """The runs of all ladders, the dearest first, each in a folder of its own below `runs`; shards are by series."""
    tasks = []
    for run in ladder_runs(spec):
        own = shards[run.series]
        corpora = tuple(
            part.model_copy(update={"shards": str(folder)})
            for part, folder in zip(run.corpora, own.train, strict=bool(run.corpora))
        )
        train = () if corpora else own.train
        of_run = run.model_copy(update={"corpora": corpora})
        tasks.append(TrainingTask(of_run, runs / run.run, train, own.test, own.benchmarks))
    return tasks


def check_given(spec: StudySpec, corpus: CorpusSpec) -> None:
    """Stop before any work when the shards are not what the study's file says, or do not go together.

    Raises:
        UserError: vocabulary or unique tokens are others, folders were encoded differently, test speech is trained on,
            or a corpus is shorter than a window.
    """
    from speechscale.train.validate import require_held_out

    folders = given_folders(corpus)
    limits = [part.unique_tokens for part in corpus.mixture] or [None]
    corpora = [
        Corpus(open_shards(folder), limit=limit) for folder, limit in zip(folders.train, limits, strict=True)
    ]
    first = corpora[0].shards[0]
    held = first.preprocessing["vocab_size"]
    if held != corpus.vocabulary:
        raise UserError(
            f"{spec.name}: corpus.vocabulary is {corpus.vocabulary}, but the shards in {folders.train[0]} have "
            f"{held} (units, EOS and padding); write that, or give other shards."
        )
    Mixture(corpora, spec.ladder.context)
    _demand_same_encoding(folders, first)
    unique = sum(each.units for each in corpora)
    if abs(unique - corpus.unique_tokens) > _ROUNDED * unique:
        raise UserError(
            f"{spec.name}: corpus.unique_tokens is {corpus.unique_tokens:,}, but the training shards hold {unique:,} "
            "units; write that, or give other shards."
        )
    require_held_out([shard for each in corpora for shard in each.shards], open_shards(folders.test))


def _demand_same_encoding(folders: ShardFolders, train: Shard) -> None:
    for folder in (folders.test, folders.benchmarks):
        if folder is not None:
            differing = differing_fields(encoding_of(open_shards(folder)[0]), encoding_of(train))
            if differing:
                raise UserError(
                    f"{folder} and {train.folder.parent} were encoded differently: {'; '.join(differing)}."
                )


def verify_shards(shards: Sequence[Shard], backend: Backend, noted: Path | None = None) -> None:
    """Read all shards whole; once, where `noted` is a file to keep in mind that they were.

    Raises:
        UserError: a shard is damaged; the sentence names it.
    """
    content = {"shards": shards_identity(list(shards))}
    if noted is not None and noted.exists() and json.loads(noted.read_text(encoding="utf-8")) == content:
        return
    folders = [shard.folder for shard in shards]
    for _ in run_tasks(verify_shard, folders, backend=backend, label="verify shards"):
        pass
    if noted is not None:
        write_json(noted, content)
