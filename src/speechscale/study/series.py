"""The shards of every series of a study: its speech, or shards derived from it.

Layout below `series/`:

    <series>/selected/train/                        utterances of one dataset
    <series>/characters/{train,test,benchmarks}/    transcripts as characters
    <series>/unigram.model/                         pieces, learnt from the training shards
    <series>/unigram/{train,test,benchmarks}/       units as pieces
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from speechscale.compute import available_cores
from speechscale.jobs.tokenize import tokenize_shards, train_tokenizer
from speechscale.study.shards import ShardFolders
from speechscale.study.spec import SeriesSpec, StudySpec
from speechscale.tokens.subset import write_subset
from speechscale.tokens.text import write_text_shards
from speechscale.tokens.unigram import UnigramTrainingTask

Log = Callable[[str], None]


def shards_by_series(
    spec: StudySpec, shards: ShardFolders, folder: Path, log: Log
) -> dict[str, ShardFolders]:
    """The shard folders of each series; derived shards are written where they are missing.

    Args:
        spec: the study.
        shards: the shards of its speech.
        folder: where derived shards are written.
        log: receives a line per derived folder.

    Raises:
        UserError: no transcripts, an unknown dataset, or existing shards with another provenance.
    """
    return {series.name: _derive(series, shards, folder / series.name, log) for series in spec.series}


def _derive(series: SeriesSpec, shards: ShardFolders, folder: Path, log: Log) -> ShardFolders:
    dataset = series.dataset
    if dataset is not None:
        subsets = []
        for number, source in enumerate(shards.train):
            subsets.append(folder / "selected" / _train_name(number, shards))
            write_subset(source, subsets[-1], dataset)
        shards = replace(shards, train=tuple(subsets))
    if series.tokens == "characters":
        shards = _convert_all(shards, folder / "characters", write_text_shards)
    if series.unigram is not None:
        model = folder / "unigram.model"
        log(
            f"{series.name:>10}: {train_tokenizer(UnigramTrainingTask(shards.train[0], series.unigram, model))}"
        )

        def tokenize(source: Path, out: Path) -> None:
            log(f"{series.name:>10}: {out.name}: {tokenize_shards(source, model, out, available_cores())}")

        shards = _convert_all(shards, folder / "unigram", tokenize)
    return shards


def _convert_all(shards: ShardFolders, out: Path, convert: Callable[[Path, Path], object]) -> ShardFolders:
    """Call `convert(source, target)` for every folder of shards; the targets are below `out`."""

    def converted(source: Path, name: str) -> Path:
        convert(source, out / name)
        return out / name

    return ShardFolders(
        tuple(converted(source, _train_name(number, shards)) for number, source in enumerate(shards.train)),
        converted(shards.test, "test"),
        converted(shards.benchmarks, "benchmarks") if shards.benchmarks else None,
    )


def _train_name(number: int, shards: ShardFolders) -> str:
    """Name of a training folder: train, or train-NUMBER where a mixture has several."""
    return "train" if len(shards.train) == 1 else f"train-{number}"
