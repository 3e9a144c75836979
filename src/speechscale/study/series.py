"""The shards of every series of a study: its own speech, or what is made of it, kept in the study's folder.

Layout below `series/`:

    <series>/selected/train/                        utterances of one dataset
    <series>/characters/{train,test,benchmarks}/    what was said
    <series>/unigram.model/                         pieces, learnt from the training shards
    <series>/unigram/{train,test,benchmarks}/       the same as pieces
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

Say = Callable[[str], None]


def series_shards(spec: StudySpec, shards: ShardFolders, folder: Path, say: Say) -> dict[str, ShardFolders]:
    """What each series trains on and is tested with; makes what does not stand yet.

    Raises:
        UserError: no transcripts, no such dataset, or shards that stand were made from something else.
    """
    return {series.name: _shards_of(series, shards, folder / series.name, say) for series in spec.series}


def _shards_of(series: SeriesSpec, shards: ShardFolders, folder: Path, say: Say) -> ShardFolders:
    dataset = series.dataset
    if dataset is not None:
        chosen = []
        for number, source in enumerate(shards.train):
            chosen.append(folder / "selected" / _part(number, shards))
            write_subset(source, chosen[-1], dataset)
        shards = replace(shards, train=tuple(chosen))
    if series.tokens == "characters":
        shards = _each(shards, folder / "characters", write_text_shards)
    if series.unigram is not None:
        model = folder / "unigram.model"
        trained = train_tokenizer(UnigramTrainingTask(shards.train[0], series.unigram, model))
        say(f"{series.name:>10}: {trained}")
        shards = _each(
            shards,
            folder / "unigram",
            lambda source, out: say(
                f"{series.name:>10}: {out.name}: {tokenize_shards(source, model, out, available_cores())}"
            ),
        )
    return shards


def _each(shards: ShardFolders, out: Path, make: Callable[[Path, Path], object]) -> ShardFolders:
    """`make` called with every folder of shards, and the one in `out` that it fills."""

    def made(source: Path, name: str) -> Path:
        make(source, out / name)
        return out / name

    return ShardFolders(
        tuple(made(source, _part(number, shards)) for number, source in enumerate(shards.train)),
        made(shards.test, "test"),
        made(shards.benchmarks, "benchmarks") if shards.benchmarks else None,
    )


def _part(number: int, shards: ShardFolders) -> str:
    """What a training folder is called: train, or by number where a mixture has several."""
    return "train" if len(shards.train) == 1 else f"train-{number}"
