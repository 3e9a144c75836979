"""What a study did, or would do, as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.records.runs import RunRecord, read_record
from speechscale.study.ladder import ladder_runs, unique_tokens
from speechscale.study.spec import StudySpec
from speechscale.train.branches import total_flops
from speechscale.train.spec import RunSpec


@dataclass(frozen=True)
class Machine:
    """What runs are planned for."""

    name: str
    flops_per_second: float  # that training reaches
    price: float | None = None  # of an hour


def ladder_table(spec: StudySpec, machine: Machine | None = None) -> str:
    """Every run with N, D, epochs, steps and FLOPs, on a machine its hours and cost; and their sums.

    Epochs are over the unique tokens that the run may read. FLOPs are those of the steps that the run itself makes: of
    a branch, those after it left its trunk. Hours are those of the exact FLOPs, attention included.
    """
    runs = ladder_runs(spec)
    branches = any(run.trunk for run in runs)
    rows = [["run", "N", "tokens D", "D/N", "unique", "epochs", "steps"]]
    rows[0] += [*(["branch of", "from step"] if branches else []), "6ND FLOPs", "exact FLOPs"]
    totals = np.zeros(2)
    for run in runs:
        shape, tokens, unique = (
            run.shape(spec.vocabulary_of(run.series)),
            run.tokens_seen,
            unique_tokens(spec, run),
        )
        made = run.tokens_trained
        flops = np.array([shape.flops(made), shape.flops_exact(made)])
        totals += flops
        of_corpus = (f"{unique:,}", f"{tokens / unique:.2f}") if unique else ("all", "")
        counts = (
            f"{shape.params:,}",
            f"{tokens:,}",
            f"{tokens / shape.params:.3g}",
            *of_corpus,
            f"{run.steps:,}",
        )
        left = (run.trunk or "", f"{run.decay_start:,}" if run.trunk else "") if branches else ()
        rows.append([run.run, *counts, *left, *_costs(flops, machine)])
    rows.append(["total", *[""] * (8 if branches else 6), *_costs(totals, machine)])
    remarks = [_saving(runs, spec.vocabulary)] if branches else []
    if machine is not None:
        rows[0] += ["hours"] if machine.price is None else ["hours", "cost"]
        pace = f"{machine.flops_per_second:.3g} exact FLOPs a second"
        remarks.append(f"hours of one {machine.name} at {pace}")
    return "\n".join([table(rows), *remarks])


def _saving(runs: Sequence[RunSpec], vocabulary: int) -> str:
    """What trunks and branches cost beside as many separate runs."""
    made = total_flops(runs, vocabulary)
    alone = total_flops((run.model_copy(update={"trunk": None}) for run in runs), vocabulary)
    share = f"{made / alone:.3f} of the {alone:.2e} FLOPs (6ND) of separate runs"
    return f"branches make only the steps after they leave their trunks: {share}"


def _costs(flops: np.ndarray, machine: Machine | None) -> list[str]:
    """FLOPs by both conventions, hours and price."""
    told = [f"{each:.2e}" for each in flops]
    if machine is not None:
        hours = flops[1] / machine.flops_per_second / 3600
        told.append(f"{hours:,.1f}")
        if machine.price is not None:
            told.append(f"{hours * machine.price:,.2f}")
    return told


def summary(folder: Path) -> str:
    """How the time was spent, the best run of every series, and where the report is."""
    stages: dict[str, float] = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    records = [read_record(path) for path in sorted(folder.glob("runs/*/record.json"))]
    done = [record for record in records if record.loss is not None]
    spent = table([("stage", "seconds"), *((name, f"{seconds:.1f}") for name, seconds in stages.items())])
    best: dict[str, RunRecord] = {}  # losses of different tokens are not compared
    for record in sorted(done, key=lambda record: record.loss or 0.0, reverse=True):
        best[record.series] = record
    told = [line for series in sorted(best) for line in ("", *_best_lines(best[series], len(best) > 1))]
    finished = f"{len(done)} of {len(records)} runs finished."
    return "\n".join(["", spent, "", finished, *told, "", f"Report: {folder / 'report.html'}"])


def _best_lines(best: RunRecord, several: bool) -> Iterable[str]:
    where = f" of the series {best.series!r}" if several else ""
    yield (
        f"The best run{where}, {best.run}: {best.params:,} parameters (non-embedding), {best.tokens:,} tokens seen,"
    )
    bits = f", {best.bits_per_second:.2f} bits per second of audio" if best.bits_per_second else ""
    yield f"test loss {best.loss:.4f} nats/token{bits}."
    yield from _score_lines(best)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first left-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _score_lines(record: RunRecord) -> Iterable[str]:
    for name, score in record.scores.items():
        if "." not in name:
            above = "above chance" if score.low > score.chance else "not above chance"
            yield f"  {name:<24} {score.accuracy:.3f} [{score.low:.3f}, {score.high:.3f}]  {above}"
