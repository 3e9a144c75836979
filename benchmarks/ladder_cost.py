"""Does a law from trunks and branches agree with one from separate cosine runs, and what does it save?

The same sizes and budgets are trained twice on the units of a study: every run by itself under a cosine (the baseline),
and with `schedule = "wsd"` as one trunk a size with a branch a budget. Both sets of losses are fitted with
`speechscale.laws`. Prints the FLOPs of both ladders and their ratio (wanted: at most 0.60), the losses run by run, and
both laws with their forecasts of the best loss beyond the ladder.

Both ladders share sizes, budgets, seeds (so the first weights and the order of the data) and the warm-up in steps. The
peak rates are each schedule's own, from a coarse sweep before the ladder, in the range where the loss is flat (shown by
`--sweep`). Below it a cosine is simply trained too little, since it spends half its steps below half its peak, and the
shorter the run the more so: such ladders compare rates, not schedules.

A parameter or forecast *agrees* when each ladder's value is within the 95 % interval of the other's. Those intervals
take the runs of a ladder for independent. They are not: the budgets of a size share first weights and order of data,
and branches the luck of their trunk besides (printed as the correlation of neighbouring budgets). So `difference` asks
the seeds instead: the laws of each seed alone, wsd less cosine, their mean with its t interval; * where 0 is outside.

    make demo                                                         # the units, once
    python benchmarks/ladder_cost.py --units work/nano/units          # about three minutes a seed on two cores
    python benchmarks/ladder_cost.py --units work/nano/units --fast   # two minutes; a test of the script
    python benchmarks/ladder_cost.py --units work/nano/units --sweep  # loss over peak rate, both schedules

Finished runs are kept in --out; stop it at any time and start it again, with more seeds if need be.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import t

from speechscale.errors import UserError
from speechscale.laws import SingleEpochFit, draw_laws, fit_single_epoch, percentile_interval
from speechscale.laws.allocation import best_loss
from speechscale.laws.single_epoch import VANISHED_SHARE
from speechscale.records.runs import RunRecord
from speechscale.records.shards import open_shards
from speechscale.train.branches import assign_trunks, total_flops
from speechscale.train.schedule import Schedule
from speechscale.train.spec import RunSpec

WANTED = 0.60
SCHEDULES: tuple[Schedule, ...] = ("cosine", "wsd")
PARAMETERS = ("ln A", "ln B", "E", "alpha", "beta")
BEYOND = (1, 3, 10)  # times the largest compute, where the best loss is forecast
DRAWS = 1000
# Times 1/dim, as the best rate of Adam falls with the width (Yang et al. 2022, arXiv 2203.03466).
PEAKS: dict[Schedule, float] = {"cosine": 0.4, "wsd": 0.28}
SWEPT = tuple(0.1 * 2 ** (power / 2) for power in range(7))


@dataclass(frozen=True)
class Ladder:
    """Sizes as (layers, dim, heads), and token budgets of one epoch at most."""

    sizes: Sequence[tuple[int, int, int]]
    budgets: Sequence[int]
    seeds: int
    context: int = 128
    batch: int = 2
    warmup: int = 20  # steps; a tenth of the shortest run


LONG = Ladder(
    sizes=((1, 16, 1), (2, 32, 1), (2, 48, 1), (3, 64, 1)),
    budgets=tuple(int(n) for n in np.geomspace(6e4, 6e5, 5)),
    seeds=6,
)
FAST = replace(LONG, budgets=tuple(int(n) for n in np.geomspace(2e4, 2e5, 5)), seeds=1, warmup=8)


def run_of(
    ladder: Ladder,
    schedule: Schedule,
    size: tuple[int, int, int],
    budget: int,
    seed: int,
    peak: float | None = None,
) -> RunSpec:
    layers, dim, heads = size
    return RunSpec(
        run=f"{schedule}-{dim}-{budget}-{seed}" + (f"-{peak:.4f}" if peak else ""),
        series=schedule,
        layers=layers,
        dim=dim,
        heads=heads,
        hidden_multiple=16,
        context=ladder.context,
        batch=ladder.batch,
        tokens=budget,
        peak_lr=(peak or PEAKS[schedule]) / dim,
        schedule=schedule,
        warmup=ladder.warmup,
        preset="modern",
        seed=seed,
        curve=0,
        checkpoint_steps=10_000,
    )


def runs_of(ladder: Ladder, schedule: Schedule) -> list[RunSpec]:
    """Every size with every budget and seed; of `wsd` as trunks and branches."""
    return assign_trunks(
        [
            run_of(ladder, schedule, size, budget, seed)
            for seed in range(ladder.seeds)
            for size in ladder.sizes
            for budget in ladder.budgets
        ]
    )


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


def paired(records: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """(cosine, wsd) of every size, budget and seed where both ended, in one order."""
    of = {
        schedule: {(r.params, r.tokens, r.seed): r for r in records if r.series == schedule and r.loss}
        for schedule in SCHEDULES
    }
    return [(of["cosine"][key], of["wsd"][key]) for key in sorted(of["cosine"].keys() & of["wsd"].keys())]


def losses(records: Sequence[RunRecord]) -> np.ndarray:
    return np.array([record.loss for record in records], dtype=float)


def compare_losses(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> None:
    """Loss of wsd over loss of cosine: by size and budget, on average, and whether it follows N or D."""
    cosine, wsd = (losses(side) for side in zip(*pairs, strict=True))
    log_ratio = np.log(wsd / cosine)
    params = np.array([one.params for one, _ in pairs])
    tokens = np.array([one.tokens for one, _ in pairs])
    print("\nloss of cosine, and of wsd over it (mean of the seeds)")
    print(f"{'N':>9}" + "".join(f"{budget:>17,}" for budget in np.unique(tokens)))
    for size in np.unique(params):
        cells = [(params == size) & (tokens == budget) for budget in np.unique(tokens)]
        cells_text = [f"{cosine[at].mean():>9.4f} {np.exp(log_ratio[at].mean()):.4f} " for at in cells]
        print(f"{size:>9,}" + "".join(f"{each:>17}" for each in cells_text))
    print(f"ratio {np.exp(log_ratio.mean()):.4f}, standard deviation {log_ratio.std(ddof=1):.4f}")
    for schedule, side in zip(SCHEDULES, (cosine, wsd), strict=True):
        tell_noise(schedule, np.log(side), params, tokens)
    design = np.stack([np.ones(len(pairs)), centred(np.log(params)), centred(np.log(tokens))], axis=1)
    slopes, *_ = np.linalg.lstsq(design, log_ratio, rcond=None)
    residual = log_ratio - design @ slopes
    error = np.sqrt(
        np.diag(np.linalg.inv(design.T @ design)) * residual.var(ddof=3) * len(pairs) / (len(pairs) - 1)
    )
    slopes_text = [
        f"{slope:+.4f} ± {1.96 * one:.4f}" for slope, one in zip(slopes[1:], error[1:], strict=True)
    ]
    print(f"ln ratio per e-fold of N: {slopes_text[0]}; of D: {slopes_text[1]}")


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def tell_noise(schedule: Schedule, log_loss: np.ndarray, params: np.ndarray, tokens: np.ndarray) -> None:
    """How far seeds lie apart, and whether a seed that is lucky at one budget is at the next one, too."""
    sizes, budgets = np.unique(params), np.unique(tokens)
    # (sizes, budgets, seeds): pairs are sorted by size, budget and seed
    grid = log_loss.reshape(len(sizes), len(budgets), -1)
    seeds = grid.shape[2]
    if seeds < 2:
        return
    off = grid - grid.mean(axis=2, keepdims=True)
    noise = np.sqrt((off**2).sum() / (len(sizes) * len(budgets) * (seeds - 1)))
    together = np.corrcoef(off[:, 1:].ravel(), off[:, :-1].ravel())[0, 1]
    print(
        f"{schedule}: ln loss of one seed ± {noise:.4f}; correlation of neighbouring budgets {together:+.2f}"
    )


def fitted(side: Sequence[RunRecord]) -> SingleEpochFit:
    return fit_single_epoch([r.params for r in side], [r.tokens for r in side], losses(side))


def read_off(theta: np.ndarray, fit: SingleEpochFit, largest: float) -> dict[str, np.ndarray]:
    """Every parameter and forecast of laws theta (S, 5), (S,) each."""
    values = dict(zip(PARAMETERS, theta.T, strict=True))
    e = np.exp(values["E"])
    values["E"] = np.where(e < VANISHED_SHARE * fit.ladder.loss.min(), 0.0, e)  # counts as zero
    values["a"] = theta[:, 4] / (theta[:, 3] + theta[:, 4])
    return values | {f"loss x{times}": best_loss(theta, times * largest) for times in BEYOND}


def compare_laws(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> None:
    """Both laws side by side."""
    largest = max(record.flops for record, _ in pairs)
    laws = []
    for schedule, side in zip(SCHEDULES, zip(*pairs, strict=True), strict=True):
        fit = fitted(side)
        converged = "converged" if fit.converged else "NOT converged"
        print(
            f"law of {schedule}: {len(side)} runs, {converged}, noise around it {fit.noise:.4f} of the loss"
        )
        theta = np.concatenate([fit.theta[None], draw_laws(fit, DRAWS, seed=0)])
        laws.append(read_off(theta, fit, largest))
        if not laws[-1]["E"][0]:
            print("  E vanished: these runs do not identify it")
    apart = differences(pairs, largest)
    print(f"{'':<10}{'cosine':<30}{'wsd':<30}{'agree':<9}difference")
    counted = []
    for name, one in laws[0].items():
        other = laws[1][name]
        counted.append(agreement(one, other))
        print(
            f"{name:<10}{format_estimate(one):<30}{format_estimate(other):<30}{counted[-1]:<9}{format_difference(apart[name])}"
        )
    print(f"{counted.count('yes')} of {len(counted)} agree both ways, {counted.count('one way')} one way")


def differences(pairs: Sequence[tuple[RunRecord, RunRecord]], largest: float) -> dict[str, np.ndarray]:
    """wsd less cosine, of the laws of each seed alone, (seeds,) each."""
    found = []
    for seed in sorted({one.seed for one, _ in pairs}):
        fits = [fitted(side) for side in zip(*(pair for pair in pairs if pair[0].seed == seed), strict=True)]
        one, other = (read_off(fit.theta[None], fit, largest) for fit in fits)
        found.append({name: float(other[name][0] - one[name][0]) for name in one})
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def format_difference(values: np.ndarray) -> str:
    """The mean over seeds with its t interval."""
    if len(values) < 2:
        return f"{values.mean():+.4g}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4g} ± {half:.2g}" + (" *" if abs(values.mean()) > half else "")


def format_estimate(estimate: np.ndarray) -> str:
    bounds = percentile_interval(estimate[1:])
    return f"{estimate[0]:.4g} " + (
        "[not identified]" if bounds is None else "[{:.4g}, {:.4g}]".format(*bounds)
    )


def holds(estimate: np.ndarray, value: float) -> bool:
    bounds = percentile_interval(estimate[1:])
    return bounds is not None and bounds[0] <= value <= bounds[1]


def agreement(one: np.ndarray, other: np.ndarray) -> str:
    """Whether each value is within the interval of the other."""
    within = holds(one, other[0]), holds(other, one[0])
    return "yes" if all(within) else "one way" if any(within) else "no"


def sweep(ladder: Ladder, units: Path, out: Path, workers: int) -> None:
    """Loss of every size at the middle budget under both schedules, over the peak rate times the width."""
    budget = ladder.budgets[len(ladder.budgets) // 2]
    runs = [
        run_of(ladder, schedule, size, budget, 0, peak)
        for size in ladder.sizes
        for schedule in SCHEDULES
        for peak in SWEPT
    ]
    records = iter(train_all(runs, units, out, workers))
    print(f"{'':<12}" + "".join(f"{peak:>9.3f}" for peak in SWEPT) + "   peak rate times dim")
    for _, dim, _ in ladder.sizes:
        for schedule in SCHEDULES:
            print(f"{dim:>4} {schedule:<7}" + "".join(f"{next(records).loss or np.nan:>9.4f}" for _ in SWEPT))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=Path, default=Path("work/nano/units"))
    parser.add_argument("--out", type=Path, default=Path("work/ladder-cost"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--sweep", action="store_true")
    chosen = parser.parse_args()
    ladder = FAST if chosen.fast else LONG
    ladder = replace(ladder, seeds=chosen.seeds or ladder.seeds)
    shards = open_shards(chosen.units / "train")
    units = sum(shard.meta["num_audio_steps"] for shard in shards)
    if units < max(ladder.budgets):
        raise UserError(f"{chosen.units}: {units} units are less than one epoch of {max(ladder.budgets)}.")
    if chosen.sweep:
        sweep(ladder, chosen.units, chosen.out / "sweep", chosen.workers)
        return
    vocabulary = shards[0].preprocessing["vocab_size"]
    ladders = {schedule: runs_of(ladder, schedule) for schedule in SCHEDULES}
    cost = {schedule: total_flops(runs, vocabulary) for schedule, runs in ladders.items()}
    print(f"{len(ladder.sizes)} sizes, {len(ladder.budgets)} budgets, {ladder.seeds} seeds")
    records = [
        record
        for schedule, runs in ladders.items()
        for record in train_all(runs, chosen.units, chosen.out / schedule, chosen.workers)
    ]
    ratio = cost["wsd"] / cost["cosine"]
    print(
        f"\nFLOPs: cosine {cost['cosine']:.3e}, wsd {cost['wsd']:.3e}; ratio {ratio:.3f} (wanted {WANTED:.2f} or less)"
    )
    pairs = paired(records)
    compare_losses(pairs)
    compare_laws(pairs)


if __name__ == "__main__":
    main()
