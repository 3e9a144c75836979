"""Test loss of a unit language model on each corpus of held-out speech."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechscale.compute import Precision
from speechscale.errors import UserError
from speechscale.records.shards import open_shards

if TYPE_CHECKING:
    from speechscale.train.validate import LossEstimate


def evaluate_corpus_losses(
    source: str, test: Path, *, unit_offset: int | None = None, precision: Precision = "auto"
) -> tuple[dict[str, LossEstimate], list[str]]:
    """The test loss of each corpus (`dataset` of the rows) and, under "", of all; and warnings.

    Args:
        source: see `open_unit_model`.
        test: folder of shards.
        unit_offset: token of unit 0, for Hugging Face models whose config.json does not name it.
        precision: of the matrix products.

    Raises:
        UserError: no model, no utterances, or units that are not the model's.
    """
    from speechscale.compute import choose_dtype
    from speechscale.jobs.load_model import open_model_for_shards
    from speechscale.train.validate import evaluate_loss_by_corpus

    shards = open_shards(test)
    if not sum(len(shard.lengths) for shard in shards):
        raise UserError(f"{test}: the shards hold no utterance, so there is no loss.")
    model, warnings = open_model_for_shards(source, [shards], unit_offset)
    dtype = choose_dtype(precision, model.model.device)
    losses = evaluate_loss_by_corpus(
        model.model, shards, dtype, bos=model.bos, to_token_ids=model.to_token_ids
    )
    return losses, warnings
