"""One model on labelled shards or test speech: scores by a convention, losses by corpus, and what is kept of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from speechscale.compute import Precision
from speechscale.errors import UserError
from speechscale.evals.accuracy import Accuracy, score_table
from speechscale.evals.conventions import PRESETS, Convention, unscored
from speechscale.jobs.score_folder import SCHEMA, SCORES, SUMMARY, ExistingScores, existing_scores
from speechscale.jobs.train_run import missing_note
from speechscale.records.revisions import made_by
from speechscale.records.runs import RECORD, read_record, write_record
from speechscale.records.scores import write_scores
from speechscale.records.seal import write_json
from speechscale.records.shards import open_shards, shards_identity
from speechscale.train.validate import LossEstimate

if TYPE_CHECKING:
    from speechscale.evals.tasks import Pair


@dataclass(frozen=True)
class Evaluation:
    """What a model was found to be worth, and what must be known of it."""

    model: str
    convention: Convention
    tokens: Mapping[str, int | None]  # before_first, closing, unit_0
    table: pl.DataFrame
    accuracies: list[Accuracy]
    missing: list[str]  # pairs without a score
    remarks: list[str]
    benchmarks: Mapping[str, Any]  # by task: from what it was scored, and how
    kept: list[str]  # tasks whose scores stood in the folder


def evaluate(
    source: str,
    benchmarks: Sequence[Path],
    out: Path,
    by: Convention,
    *,
    unit_offset: int | None = None,
    precision: Precision = "auto",
) -> Evaluation:
    """Score a model; `out` gets scores.parquet and scores.json, in which other tasks stay. A run of ours scored into
    its own folder by the study's convention has its record brought up to date, too: scores of a runs table are all of
    one convention.

    Args:
        benchmarks: folders of labelled shards.

    Raises:
        UserError: no model, no labelled shards, units that are not the model's, or a folder that holds further tasks of
            another model or convention.
    """
    from speechscale.compute import choose_device, choose_dtype
    from speechscale.evals.score import score_pairs
    from speechscale.evals.tasks import read_pairs, tasks_of, with_prompts
    from speechscale.jobs.load_model import open_unit_model

    folders = [open_shards(folder) for folder in benchmarks]
    shards = [shard for folder in folders for shard in folder]
    device = choose_device()
    opened = open_unit_model(source, device, unit_offset)
    remarks = {remark for folder in folders if (remark := opened.check_units(folder))}
    tokens = {"before_first": opened.bos if by.bos else None, "closing": opened.end, "unit_0": opened.offset}
    asked = [tasks_of(folder) for folder in folders]
    kept = existing_scores(out, set().union(*asked), source, by, tokens)
    unpaired: list[str] = []
    pairs, unlabelled = read_pairs(shards, unpaired), Counter[str]()
    if by.given == "prompt":
        _some_prompt(with_prompts(read_pairs(shards, []), Counter()))
        pairs = with_prompts(pairs, unlabelled)
    dtype = choose_dtype(precision, device)
    table = score_pairs(
        opened.model,
        pairs,
        bos=tokens["before_first"],
        end=opened.end,
        offset=opened.offset,
        dtype=dtype,
    )
    facts = {
        task: {
            "shards": shards_identity(
                [shard for folder, of in zip(folders, asked, strict=True) if task in of for shard in folder]
            ),
            "precision": str(dtype).removeprefix("torch."),
            "context": opened.model.context,
        }
        | ({"prompts_not_labelled": unlabelled[task]} if by.given == "prompt" else {})
        for task in sorted(set().union(*asked))
    }
    remarks |= {
        f"{task}: of {count} pairs no label says the prompt, so it is what both members begin with"
        for task, count in unlabelled.items()
    }
    found = beside(kept, source, by, tokens, table, [*unpaired, *unscored(table, by)], sorted(remarks), facts)
    write_evaluation(found, out)
    if (out / RECORD).exists() and Path(source).resolve() == out.resolve() and by == PRESETS["official"]:
        record = read_record(out / RECORD)
        note = missing_note(found.missing)
        if not kept.told:  # the study noted what it could not score
            note = "; ".join(dict.fromkeys(filter(None, (record.note, note))))
        scores = kept.scores(record, found.table, by)
        write_record(record.model_copy(update={"scores": scores, "note": note}), out / RECORD)
    return found


def _some_prompt(pairs: Iterable[Pair]) -> None:
    if not any(pair.prompt for pair in pairs):
        raise UserError(
            "no pair has a prompt: no label says one, and no two members begin with the same unit; score without "
            "--given prompt."
        )


def beside(
    kept: ExistingScores,
    model: str,
    by: Convention,
    tokens: Mapping[str, int | None],
    table: pl.DataFrame,
    missing: list[str],
    remarks: list[str],
    facts: Mapping[str, Any],
) -> Evaluation:
    """Tasks scored now, beside those that stood."""
    whole = pl.concat([kept.table, table])
    return Evaluation(
        model,
        by,
        tokens,
        whole,
        score_table(whole, by),
        [*kept.missing, *missing],
        list(dict.fromkeys([*kept.remarks, *remarks])),
        {**kept.benchmarks, **facts},
        kept.tasks,
    )


def write_evaluation(found: Evaluation, out: Path) -> None:
    """scores.parquet, and scores.json: every score with its convention."""
    write_scores(found.table, out / SCORES)
    told = {
        "schema": SCHEMA,
        **made_by("score"),
        "model": found.model,
        "convention": found.convention.model_dump(),
        "tokens": dict(found.tokens),
        "benchmarks": dict(found.benchmarks),
        "pairs": found.table.height,
        "not_scored": found.missing,
        "remarks": found.remarks,
        "scores": [
            {key: value for key, value in asdict(each).items() if key != "score"} | each.score.model_dump()
            for each in found.accuracies
        ],
    }
    write_json(out / SUMMARY, told)


def losses(
    source: str, test: Path, *, unit_offset: int | None = None, precision: Precision = "auto"
) -> tuple[dict[str, LossEstimate], list[str]]:
    """The test loss of each corpus (`dataset` of the rows) and, under "", of all; and remarks.

    Raises:
        UserError: no model, no shards, or units that are not the model's.
    """
    from speechscale.compute import choose_device, choose_dtype
    from speechscale.jobs.load_model import open_unit_model
    from speechscale.train.validate import evaluate_loss_by_corpus

    shards = open_shards(test)
    if not sum(len(shard.lengths) for shard in shards):
        raise UserError(f"{test}: the shards hold no utterance, so there is no loss.")
    device = choose_device()
    opened = open_unit_model(source, device, unit_offset)
    remark = opened.check_units(shards)
    dtype = choose_dtype(precision, device)
    found = evaluate_loss_by_corpus(opened.model, shards, dtype, bos=opened.bos, to_token_ids=opened.spelled)
    return found, [remark] if remark else []
