"""The planned ladder and the outcome of a study, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.records.runs import RunRecord, read_record
from speechscale.study.folder import StudyFolder
from speechscale.study.ladder import ladder_runs, unique_tokens
from speechscale.study.spec import StudySpec
from speechscale.train.branches import total_flops
from speechscale.train.spec import RunSpec


@dataclass(frozen=True)
class Machine:
    """The machine that a ladder is planned for.

    Attributes:
        name: of the GPU.
        flops_per_second: exact FLOPs that training reaches.
        price: of one hour.
    """

    name: str
    flops_per_second: float
    price: float | None = None


def ladder_table(spec: StudySpec, machine: Machine | None = None) -> str:
    """Every run with N, D, epochs, steps and FLOPs, and with hours and cost on a machine; and the totals.

    Epochs count passes over the unique tokens that the run may read. FLOPs count the steps that the run itself makes:
    those of a branch, without those of its trunk. Hours follow from the exact FLOPs, attention included.
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
        trained = run.tokens_trained
        flops = np.array([shape.flops(trained), shape.flops_exact(trained)])
        totals += flops
        epochs = (f"{unique:,}", f"{tokens / unique:.2f}") if unique else ("all", "")
        counts = (
            f"{shape.params:,}",
            f"{tokens:,}",
            f"{tokens / shape.params:.3g}",
            *epochs,
            f"{run.steps:,}",
        )
        branch_point = (run.trunk or "", f"{run.decay_start:,}" if run.trunk else "") if branches else ()
        rows.append([run.run, *counts, *branch_point, *_costs(flops, machine)])
    rows.append(["total", *[""] * (8 if branches else 6), *_costs(totals, machine)])
    notes = [_saving(runs, spec.vocabulary)] if branches else []
    if machine is not None:
        rows[0] += ["hours"] if machine.price is None else ["hours", "cost"]
        speed = f"{machine.flops_per_second:.3g} exact FLOPs per second"
        notes.append(f"hours of one {machine.name} at {speed}")
    return "\n".join([format_table(rows), *notes])


def _saving(runs: Sequence[RunSpec], vocabulary: int) -> str:
    """The cost of trunks and branches relative to the same number of separate runs."""
    branched = total_flops(runs, vocabulary)
    separate = total_flops((run.model_copy(update={"trunk": None}) for run in runs), vocabulary)
    ratio = f"{branched / separate:.3f} of the {separate:.2e} FLOPs (6ND) of separate runs"
    return f"branches train only after they leave their trunks: {ratio}"


def _costs(flops: np.ndarray, machine: Machine | None) -> list[str]:
    """Cells with FLOPs by both conventions, hours and price."""
    cells = [f"{each:.2e}" for each in flops]
    if machine is not None:
        hours = flops[1] / machine.flops_per_second / 3600
        cells.append(f"{hours:,.1f}")
        if machine.price is not None:
            cells.append(f"{hours * machine.price:,.2f}")
    return cells


def summary(folder: Path) -> str:
    """Seconds per stage, the best run of every series, and the path of the report, as text."""
    stages = StudyFolder(folder).stage_seconds()
    records = [read_record(path) for path in sorted(folder.glob("runs/*/record.json"))]
    done = [record for record in records if record.loss is not None]
    durations = format_table(
        [("stage", "seconds"), *((name, f"{seconds:.1f}") for name, seconds in stages.items())]
    )
    best: dict[str, RunRecord] = {}  # per series: losses over different tokens are not comparable
    for record in sorted(done, key=lambda record: record.loss or 0.0, reverse=True):
        best[record.series] = record
    best_runs = [line for series in sorted(best) for line in ("", *_best_lines(best[series], len(best) > 1))]
    finished = f"{len(done)} of {len(records)} runs finished."
    return "\n".join(["", durations, "", finished, *best_runs, "", f"Report: {folder / 'report.html'}"])


def _best_lines(best: RunRecord, several: bool) -> Iterable[str]:
    where = f" of the series {best.series!r}" if several else ""
    yield (
        f"The best run{where}, {best.run}: {best.params:,} parameters (non-embedding), {best.tokens:,} tokens seen,"
    )
    bits = f", {best.bits_per_second:.2f} bits per second of audio" if best.bits_per_second else ""
    yield f"test loss {best.loss:.4f} nats/token{bits}."
    yield from _score_lines(best)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text in columns, the first column left-aligned."""
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
