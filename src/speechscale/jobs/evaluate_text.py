"""A text language model on written benchmarks: its scores, its size, and the row of the runs table that says both."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechscale.compute import Precision
from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError
from speechscale.evals.accuracy import accuracies
from speechscale.evals.conventions import PRESETS, Convention, unscored
from speechscale.jobs.evaluate import Evaluation, beside, write_evaluation
from speechscale.jobs.load_model import on_hub
from speechscale.jobs.score_folder import existing_scores
from speechscale.jobs.train_run import missing_note
from speechscale.model.pythia import TOKENS_PER_STEP, checkpoint_warning, training_steps, unique_corpus_tokens
from speechscale.records.runs import RECORD, ImportedRecipe, RunRecord, write_record
from speechscale.records.runs_table import append_run
from speechscale.records.text_pairs import TextBenchmark

if TYPE_CHECKING:
    from speechscale.model.hugging_face import HuggingFaceModel

SERIES = "text"


@dataclass(frozen=True)
class TextModel:
    """Which model, and what is known of its training."""

    name: str  # a folder, or an id of the Hugging Face hub
    revision: str | None = None  # branch, tag or commit of the hub
    tokens: int | None = None  # seen; None: what Pythia says of the revision

    @property
    def source(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def run(self) -> str:
        name = Path(self.name).absolute().name
        return f"{name}@{self.revision}" if self.revision else name

    def tokens_seen(self) -> int:
        """D.

        Raises:
            UserError: nobody says how many, or none.
        """
        steps = training_steps(self.name, self.revision)
        tokens = self.tokens if self.tokens is not None or steps is None else steps * TOKENS_PER_STEP
        if tokens is None:
            raise UserError(
                f"{self.run}: nothing says how many tokens it has seen (branches stepN of EleutherAI/pythia-… do); say "
                "it with --tokens."
            )
        if tokens < 1:
            raise UserError(
                f"{self.run}: has seen no token, so it has no place in a table of runs; leave --table out."
            )
        return tokens


def model_named(text: str, tokens: int | None = None) -> TextModel:
    """A folder, or `owner/name@revision`.

    Raises:
        UserError: no such folder, and no revision.
    """
    if Path(text).exists():
        return TextModel(text, None, tokens)
    return TextModel(*on_hub(text), tokens)


def benchmarks_named(given: Sequence[str]) -> dict[str, Path]:
    """`task=path` for every benchmark.

    Raises:
        UserError: not of that form, or a task twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        task, sign, path = text.partition("=")
        if not (task and sign and path):
            raise UserError(f"--benchmark {text!r}: task=path is wanted, as in sblimp=blimp/data.")
        if task in found:
            raise UserError(f"--benchmark {task} is given twice; keep one of the two.")
        found[task] = Path(path)
    return found


def score_text(
    model: TextModel,
    benchmarks: Mapping[str, Path],
    out: Path,
    by: Convention = PRESETS["official"],
    *,
    table: Path | None = None,
    precision: Precision = "auto",
) -> tuple[Evaluation, RunRecord]:
    """Score a model; `out` gets scores.parquet, scores.json and the model's record, in which other tasks stay, the
    runs table a row.

    Raises:
        UserError: a benchmark or model that cannot be read; for a table, a model that does not say how many tokens it
            has seen, or another convention than the study's. The sentence says which.
    """
    started = time.perf_counter()
    if table and by != PRESETS["official"]:
        raise UserError(
            f"{table}: scores of a runs table are all of the study's convention; leave --table out, or --preset and "
            "its switches."
        )
    seen = model.tokens_seen() if table else model.tokens or 0
    written = {task: read_text_benchmark(path) for task, path in benchmarks.items()}

    from speechscale.compute import choose_device, choose_dtype
    from speechscale.evals.score import score_pairs
    from speechscale.evals.text import text_pairs
    from speechscale.model.hugging_face import load_causal_model
    from speechscale.model.text_tokenizer import load_text_tokenizer

    tokenizer = load_text_tokenizer(model.name, model.revision)
    scored = load_causal_model(model.name, model.revision, choose_device())
    pairs = (pair for task, found in written.items() for pair in text_pairs(task, found.pairs, tokenizer))
    bos = tokenizer.bos if by.bos else None
    dtype = choose_dtype(precision, scored.device)
    tokens = {"before_first": bos, "closing": tokenizer.eos}
    kept = existing_scores(out, set(written), model.source, by, tokens)
    scores = score_pairs(scored, pairs, bos=bos, end=tokenizer.eos, dtype=dtype)
    facts = {
        "precision": str(dtype).removeprefix("torch."),
        "context": scored.context,
    }
    found = beside(
        kept,
        model.source,
        by,
        tokens,
        scores,
        unscored(scores, by),
        _remarks(model, written),
        {task: {"texts": str(path)} | facts for task, path in benchmarks.items()},
    )
    record = _record(model, seen, scored, found, time.perf_counter() - started)
    write_evaluation(found, out)
    write_record(record, out / RECORD)
    if table:
        append_run(record, table)
    return found, record


def _record(
    model: TextModel, tokens: int, scored: HuggingFaceModel, found: Evaluation, seconds: float
) -> RunRecord:
    """The model as a run that others trained: without a loss, for it has none on our test set."""
    from speechscale.model.counting import count_parameters

    size = count_parameters(scored.module, scored.context)
    unique = min(tokens, unique_corpus_tokens(model.name) or tokens)
    return RunRecord.of(
        size,
        ImportedRecipe(model.run, SERIES, tokens, training_steps(model.name, model.revision) or 0),
        unique_tokens=unique,
        epoch_tokens=unique,
        status="imported",
        seconds=seconds,
        scores=accuracies(found.table, found.convention),
        note="; ".join(filter(None, (missing_note(found.missing), *found.remarks))),
    )


def _remarks(model: TextModel, written: Mapping[str, TextBenchmark]) -> list[str]:
    """What a reader of the scores must know."""
    remarks = [f"{task}: {note}" for task, found in written.items() for note in found.notes]
    why = checkpoint_warning(model.name, model.revision)
    return [*remarks, *([why] if why else [])]
