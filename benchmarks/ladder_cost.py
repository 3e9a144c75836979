"""Does a law from trunks and branches agree with one from separate cosine runs, and what does it save?

The same sizes and budgets are trained twice on the units of a study: every run by itself under a cosine (the baseline),
and with `schedule = "wsd"` as one trunk a size with a branch a budget. Both sets of losses are fitted with
`speechscale.laws`. Prints the FLOPs of both ladders and their ratio (wanted: at most 0.60), both laws with intervals,
forecasts, and whether each value lies within the other's interval.

    make demo                                                        # the units, once
    python benchmarks/ladder_cost.py --units work/nano/units         # about half an hour on two cores
    python benchmarks/ladder_cost.py --units work/nano/units --fast  # a glance: five minutes

Finished runs are kept in --out; stop it at any time and start it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechscale.errors import UserError
from speechscale.laws import fit_table
from speechscale.laws.drawn import from_file
from speechscale.plan import plan_budget
from speechscale.records.runs import RunRecord
from speechscale.records.shards import open_shards
from speechscale.train.branches import flops_of_all, with_trunks
from speechscale.train.schedule import Schedule
from speechscale.train.spec import RunSpec

WANTED = 0.60
PARAMETERS = ("E", "A", "B", "alpha", "beta")
BEYOND = (1, 3, 10)  # times the largest compute, where losses are forecast


@dataclass(frozen=True)
class Ladder:
    """Sizes as (layers, dim, heads, peak rate), and token budgets of one epoch at most."""

    sizes: Sequence[tuple[int, int, int, float]]
    budgets: Sequence[int]
    seeds: int
    context: int = 256
    batch: int = 4


LONG = Ladder(
    sizes=((2, 32, 1, 6e-3), (3, 48, 1, 5e-3), (3, 64, 1, 4e-3), (4, 96, 2, 3e-3)),
    budgets=tuple(int(n) for n in np.geomspace(1e5, 1e6, 5)),
    seeds=2,
)
FAST = Ladder(
    sizes=((1, 16, 1, 8e-3), (2, 32, 1, 6e-3), (2, 48, 1, 5e-3), (3, 64, 1, 4e-3)),
    budgets=tuple(int(n) for n in np.geomspace(3e4, 3e5, 5)),
    seeds=1,
)


def runs_of(ladder: Ladder, schedule: Schedule) -> list[RunSpec]:
    """Every size with every budget and seed; of `wsd` as trunks and branches."""
    runs = [
        RunSpec(
            run=f"{schedule}-{dim}-{budget}-{seed}",
            series=schedule,
            layers=layers,
            dim=dim,
            heads=heads,
            hidden_multiple=16,
            context=ladder.context,
            batch=ladder.batch,
            tokens=budget,
            peak_rate=rate,
            schedule=schedule,
            preset="modern",
            seed=seed,
            curve=0,
        )
        for layers, dim, heads, rate in ladder.sizes
        for budget in ladder.budgets
        for seed in range(ladder.seeds)
    ]
    return with_trunks(runs)


def train(spec: RunSpec, units: Path, out: Path) -> RunRecord:
    """One run; at once where it is done."""
    import torch

    from speechscale.train.loop import train_run

    torch.set_num_threads(1)
    return train_run(spec, open_shards(units / "train"), open_shards(units / "test"), out / spec.run)


def train_all(runs: Sequence[RunSpec], units: Path, out: Path, workers: int) -> list[RunRecord]:
    """All runs, those with a trunk after the others."""
    os.environ["OMP_NUM_THREADS"] = "1"
    records = []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for branches in (False, True):
            chosen = [run for run in runs if (run.trunk is not None) == branches]
            for record in pool.map(train, chosen, [units] * len(chosen), [out] * len(chosen)):
                loss = f"loss {record.loss:.4f}" if record.loss else record.note
                print(f"  {record.run:<24}{loss}  {record.seconds:6.1f} s", flush=True)
                records.append(record)
    return records


def compare(records: Sequence[RunRecord]) -> None:
    """Both laws side by side."""
    law = fit_table([record.row() for record in records], laws=["single_epoch"])
    parts = {series: part["single_epoch"] for series, part in law["series"].items()}
    largest = max(record.flops for record in records)
    rows = [
        (name, *((part["params"][name], part["interval95"][name]) for part in parts.values()))
        for name in PARAMETERS
    ]
    drawn = {series: from_file(law, series) for series in parts}
    for times in BEYOND:
        losses = [plan_budget(one, times * largest).loss for one in drawn.values()]
        rows.append((f"loss x{times}", *((loss.value, loss.interval95) for loss in losses)))
    print(f"{'':<10}" + "".join(f"{series:<34}" for series in parts) + "agree")
    for name, one, other in rows:
        told = "".join(f"{_tell(*estimate):<34}" for estimate in (one, other))
        print(f"{name:<10}{told}{_agree(one, other)}")
    pairs = {
        series: {r.run.split("-", 1)[1]: r.loss for r in records if r.series == series} for series in parts
    }
    ratios = [pairs["wsd"][run] / loss for run, loss in pairs["cosine"].items() if loss and pairs["wsd"][run]]
    print(
        f"loss of wsd over loss of cosine: {np.mean(ratios):.4f} ± {np.std(ratios):.4f} over {len(ratios)} runs"
    )


def _tell(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.4g}" if interval is None else "{:.4g} [{:.4g}, {:.4g}]".format(value, *interval)


def _agree(one: tuple[float, Sequence[float] | None], other: tuple[float, Sequence[float] | None]) -> str:
    """Whether each value lies within the interval of the other."""
    within = [
        interval is not None and interval[0] <= value <= interval[1]
        for value, interval in ((one[0], other[1]), (other[0], one[1]))
    ]
    return "yes" if all(within) else "one way" if any(within) else "no"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=Path, default=Path("work/nano/units"))
    parser.add_argument("--out", type=Path, default=Path("work/ladder-cost"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--fast", action="store_true")
    chosen = parser.parse_args()
    ladder = FAST if chosen.fast else LONG
    if chosen.seeds:
        ladder = Ladder(ladder.sizes, ladder.budgets, chosen.seeds)
    shards = open_shards(chosen.units / "train")
    units = sum(shard.meta["num_audio_steps"] for shard in shards)
    if units < max(ladder.budgets):
        raise UserError(f"{chosen.units}: {units} units are less than one epoch of {max(ladder.budgets)}.")
    runs = {schedule: runs_of(ladder, schedule) for schedule in ("cosine", "wsd")}
    vocabulary = shards[0].preprocessing["vocab_size"]
    cost = {schedule: flops_of_all(ladder_runs, vocabulary) for schedule, ladder_runs in runs.items()}
    print(f"{len(runs['wsd'])} runs a ladder, {len(ladder.sizes)} sizes, {len(ladder.budgets)} budgets")
    records = [
        record
        for schedule, ladder_runs in runs.items()
        for record in train_all(ladder_runs, chosen.units, chosen.out / schedule, chosen.workers)
    ]
    ratio = cost["wsd"] / cost["cosine"]
    print(
        f"FLOPs: cosine {cost['cosine']:.3e}, wsd {cost['wsd']:.3e}; ratio {ratio:.3f} (wanted {WANTED:.2f} or less)"
    )
    compare(records)


if __name__ == "__main__":
    main()
