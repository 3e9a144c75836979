"""Scores of untrained models of the shape of a model, on the same benchmarks: what no learning explains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechscale.compute import Precision, choose_dtype
from speechscale.errors import UserError
from speechscale.evals.accuracy import task_accuracies
from speechscale.evals.null_bands import null_bands
from speechscale.records.code import code_identity
from speechscale.records.null_scores import NULL_FILE, NullScores, write_null_scores
from speechscale.records.revisions import revisions_of
from speechscale.records.score_folder import model_name
from speechscale.records.scores import ScoresFile
from speechscale.records.seeds import spawn_seed

_SEED = 0
MIN_MODELS = 2


def require_enough_models(count: int) -> None:
    """Refuse numbers of untrained models that give no band.

    Raises:
        UserError: fewer than two.
    """
    if count < MIN_MODELS:
        raise UserError(
            f"--null {count}: the spread of scores takes {MIN_MODELS} untrained models at least; with 20 the band is "
            "nearly as narrow as it gets."
        )


def score_untrained_models(
    source: str,
    benchmarks: Sequence[Path],
    out: Path,
    count: int,
    file: ScoresFile,
    *,
    unit_offset: int | None = None,
    precision: Precision = "auto",
) -> NullScores:
    """Score untrained models, and write null.json in place of a former one.

    Args:
        source: the model that gives the shape; see `open_unit_model`.
        benchmarks: folders of labelled shards.
        out: gets null.json.
        count: number of untrained models.
        file: the scores of the model, by the same convention.
        unit_offset: token of unit 0, for Hugging Face models whose config.json does not name it.
        precision: of the matrix products.

    Raises:
        UserError: fewer than two models; no model, or no labelled shards.
    """
    from speechscale.evals.score import score_pairs
    from speechscale.evals.tasks import open_benchmarks
    from speechscale.jobs.load_model import open_model_for_shards
    from speechscale.model.untrained import untrained_like

    require_enough_models(count)
    opened = open_benchmarks(benchmarks, given=file.convention.given)
    model, _ = open_model_for_shards(source, opened.folders, unit_offset)
    pairs, dtype = list(opened.pairs), choose_dtype(precision, model.model.device)
    accuracies = []
    for number in range(count):
        seed = spawn_seed(_SEED, "untrained", str(number))
        untrained = untrained_like(model.model, model.preset, seed)
        accuracies.append(
            task_accuracies(score_pairs(untrained, pairs, file.tokens, dtype=dtype), file.convention)
        )
    scores = NullScores(
        code=code_identity(),
        revisions=revisions_of("score", "train"),
        model=model_name(model.name, out),
        models=count,
        seed=_SEED,
        convention=file.convention,
        tokens=file.tokens,
        benchmarks={task: file.benchmarks[task] for task in sorted(opened.tasks)},
        bands=null_bands(accuracies),
    )
    write_null_scores(scores, out / NULL_FILE)
    return scores
