"""The corpora that a run's TOML file or its command names, opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.shards import open_shards
from speechscale.tokens.mixture import TrainingCorpus
from speechscale.train.spec import CorpusSpec, RunSpec


def mixed(
    spec: RunSpec, beside: Path, folders: Sequence[Path], weights: Sequence[float]
) -> tuple[RunSpec, list[TrainingCorpus]]:
    """The run with its mixture on record, and the corpora: `folders`, or those of the spec, relative to `beside`.

    Raises:
        UserError: both or neither name corpora, weights do not go with the folders, or a folder holds no shards.
    """
    if bool(folders) == bool(spec.corpora):
        raise UserError(
            f"{spec.run}: the TOML file names corpora, and so does --shards; leave one out."
            if folders
            else f"{spec.run}: no training shards; name them with --shards, or as [[corpora]] in the TOML file."
        )
    if not folders:
        if weights:
            raise UserError(
                "--weight goes with --shards; the corpora of the TOML file have their weights there."
            )
        return spec, [_opened(corpus, beside) for corpus in spec.corpora]
    if weights and len(weights) != len(folders):
        raise UserError(
            f"{len(weights)} --weight for {len(folders)} --shards; give each folder one, or none of them."
        )
    for weight in weights:
        if not 0 < weight < math.inf:
            raise UserError(f"--weight {weight:g}: a weight is a number above zero.")
    if len(folders) == 1:
        return spec, [TrainingCorpus(open_shards(folders[0]), limit=spec.unique_tokens)]
    if spec.unique_tokens is not None:
        raise UserError(
            f"{spec.run}: unique_tokens limits one corpus, and --shards names {len(folders)}; write them into the TOML "
            "file as [[corpora]], each with its unique_tokens."
        )
    corpora = tuple(
        CorpusSpec(shards=str(folder), weight=weights[place] if weights else None)
        for place, folder in enumerate(folders)
    )
    return spec.model_copy(update={"corpora": corpora}), [_opened(corpus, Path()) for corpus in corpora]


def _opened(corpus: CorpusSpec, beside: Path) -> TrainingCorpus:
    weight = float(corpus.weight or corpus.tokens or 1)
    return TrainingCorpus(open_shards(beside / corpus.shards), weight, corpus.unique_tokens)
