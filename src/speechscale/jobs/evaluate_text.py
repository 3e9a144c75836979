"""Zero-shot scores of a text language model on written benchmarks, with its size and its row of the runs table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechscale.compute import Precision
from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError
from speechscale.evals.contrasts import contrast_sources
from speechscale.evals.conventions import PRESETS, convention_from_preset, unscored_pairs
from speechscale.jobs.evaluate import Evaluation, write_evaluation
from speechscale.jobs.load_model import parse_hub_id
from speechscale.model.pythia import TOKENS_PER_STEP, checkpoint_warning, training_steps, unique_corpus_tokens
from speechscale.records.runs import RECORD, ImportedRecipe, RunRecord, write_record
from speechscale.records.runs_table import append_run
from speechscale.records.score_folder import ScoringSetup, TaskScores, existing_scores, model_name
from speechscale.records.scores import BenchmarkProvenance, Convention, SpecialTokens
from speechscale.records.text_pairs import TextBenchmark

if TYPE_CHECKING:
    import polars as pl

    from speechscale.model.hugging_face import HuggingFaceModel

SERIES = "text"


@dataclass(frozen=True)
class TextModel:
    """A causal language model of Hugging Face, and what is known of its training."""

    name: str  # a folder, or an id of the Hugging Face hub
    revision: str | None = None  # branch, tag or commit of the hub
    tokens: int | None = None  # seen in training; None: as Pythia states for the revision

    @property
    def source(self) -> str:
        """The model as the user names it: a folder, or `owner/name@revision`."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def run(self) -> str:
        """Name of the model in the runs table, without folder or owner."""
        name = Path(self.name).absolute().name
        return f"{name}@{self.revision}" if self.revision else name

    def tokens_seen(self) -> int:
        """D, the tokens seen in training.

        Raises:
            UserError: the number is unknown, or 0.
        """
        steps = training_steps(self.name, self.revision)
        tokens = self.tokens if self.tokens is not None or steps is None else steps * TOKENS_PER_STEP
        if tokens is None:
            raise UserError(
                f"{self.run}: the number of training tokens is unknown (known for branches stepN of "
                "EleutherAI/pythia-…); give it with --tokens."
            )
        if tokens < 1:
            raise UserError(
                f"{self.run}: has seen no token, so it cannot be a row of a runs table; leave out --table."
            )
        return tokens


@dataclass(frozen=True, kw_only=True)
class TextEvaluationRequest:
    """Everything that `speechscale eval text` is asked for."""

    model: str  # a folder, or owner/name@revision
    benchmarks: Sequence[str]  # task=path
    out: Path
    preset: str = "official"
    switches: Mapping[str, object]  # fields of `Convention`; None keeps the value of the preset
    table: Path | None = None
    tokens: int | None = None
    precision: Precision = "auto"


def run_text_evaluation(request: TextEvaluationRequest) -> Evaluation:
    """Score a text model as `speechscale eval text` asks.

    Raises:
        UserError: a model or benchmark that is not named as it should be, or see `evaluate_text`.
    """
    convention = convention_from_preset(request.preset, **request.switches)
    benchmarks = parse_benchmarks(request.benchmarks)
    model = parse_text_model(request.model, request.tokens)
    evaluation, _ = evaluate_text(
        model, benchmarks, request.out, convention, table=request.table, precision=request.precision
    )
    return evaluation


def parse_text_model(text: str, tokens: int | None = None) -> TextModel:
    """A folder, or `owner/name@revision` of the Hugging Face hub.

    Raises:
        UserError: no such folder, and no revision.
    """
    if Path(text).exists():
        return TextModel(text, None, tokens)
    return TextModel(*parse_hub_id(text), tokens)


def parse_benchmarks(options: Sequence[str]) -> dict[str, Path]:
    """Paths of benchmarks by task, from `task=path`.

    Raises:
        UserError: not of that form, or a task twice.
    """
    benchmarks: dict[str, Path] = {}
    for text in options:
        task, separator, path = text.partition("=")
        if not (task and separator and path):
            raise UserError(f"--benchmark {text!r}: task=path is wanted, as in sblimp=blimp/data.")
        if task in benchmarks:
            raise UserError(f"--benchmark {task} is given twice; keep one of the two.")
        benchmarks[task] = Path(path)
    return benchmarks


def evaluate_text(
    model: TextModel,
    benchmarks: Mapping[str, Path],
    out: Path,
    convention: Convention = PRESETS["official"],
    *,
    table: Path | None = None,
    precision: Precision = "auto",
) -> tuple[Evaluation, RunRecord]:
    """Score a text model, and add the scores to those of other tasks in a score folder and a runs table.

    Args:
        model: the model.
        benchmarks: written benchmarks by task.
        out: gets scores.parquet, scores.json and record.json.
        convention: how the answer to a pair is decided.
        table: runs table that gets a row; None: none.
        precision: of the matrix products.

    Raises:
        UserError: a benchmark or model that cannot be read; with a table, an unknown number of training tokens, or a
            convention other than the official one.
    """
    started = time.perf_counter()
    if table:
        _require_official(convention, table)
    tokens_seen = model.tokens_seen() if table else model.tokens or 0
    written = {task: read_text_benchmark(path) for task, path in benchmarks.items()}

    from speechscale.compute import choose_device, choose_dtype
    from speechscale.evals.score import score_pairs
    from speechscale.evals.text import text_pairs
    from speechscale.model.hugging_face import load_causal_model
    from speechscale.model.text_tokenizer import load_text_tokenizer

    tokenizer = load_text_tokenizer(model.name, model.revision)
    language_model = load_causal_model(model.name, model.revision, choose_device())
    tokens = SpecialTokens(before_first=tokenizer.bos if convention.bos else None, closing=tokenizer.eos)
    setup = ScoringSetup(model=model_name(model.source, out), convention=convention, tokens=tokens)
    kept = existing_scores(out, set(written), setup).kept
    dtype = choose_dtype(precision, language_model.device)
    pairs = (pair for task, each in written.items() for pair in text_pairs(task, each.pairs, tokenizer))
    scores = score_pairs(language_model, pairs, tokens, dtype=dtype)
    new = TaskScores(
        table=scores,
        not_scored=tuple(unscored_pairs(scores, convention)),
        warnings=_warnings(model, written),
        benchmarks=_provenance(benchmarks, scores, str(dtype).removeprefix("torch."), language_model.context),
    )
    evaluation = write_evaluation(model.source, setup, new, out, kept)
    record = _record(model, tokens_seen, language_model, evaluation, time.perf_counter() - started)
    write_record(record, out / RECORD)
    if table:
        append_run(record, table)
    return evaluation, record


def _require_official(convention: Convention, table: Path) -> None:
    if convention != PRESETS["official"]:
        raise UserError(
            f"{table}: a runs table holds scores of the official convention only; leave out --table, or --preset and "
            "its switches."
        )


def _provenance(
    benchmarks: Mapping[str, Path], scores: pl.DataFrame, precision: str, context: int
) -> dict[str, BenchmarkProvenance]:
    return {
        task: BenchmarkProvenance(
            texts=str(path), precision=precision, context=context, contrasts=contrast_sources(scores, task)
        )
        for task, path in benchmarks.items()
    }


def _record(
    model: TextModel, tokens: int, scored: HuggingFaceModel, evaluation: Evaluation, seconds: float
) -> RunRecord:
    """The model as an imported run, without a loss: it reads other tokens than the test set has."""
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
        scores=evaluation.headline_scores,
        note="; ".join(filter(None, (evaluation.file.not_scored_note, *evaluation.file.warnings))),
    )


def _warnings(model: TextModel, written: Mapping[str, TextBenchmark]) -> tuple[str, ...]:
    """Notes of the benchmarks, and known doubts about the model."""
    notes = [f"{task}: {note}" for task, found in written.items() for note in found.notes]
    known_problem = checkpoint_warning(model.name, model.revision)
    return (*notes, *([known_problem] if known_problem else []))
