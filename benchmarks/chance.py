"""Whether 95 % intervals of scores hold 0.5 for models that have learned nothing.

Untrained models (random initialisations, as training begins with them) answer the benchmarks of a story world. For each
task, condition and phenomenon the table says in which share of the models the interval holds 0.5 (wanted: 92-98 %), the
standard deviation of the score over models, and the one that the intervals assume (half their width / 1.96). Without
--benchmarks the items of the small world are spoken, and encoded by a codebook that is learned from its prose. Score
tables are kept in the working folder, so that another interval can be judged without scoring again.

    python benchmarks/chance.py [--models 200] [--benchmarks SHARDS] [--work /tmp/chance]
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechscale.compute import available_cores
from speechscale.evals.accuracy import task_accuracies
from speechscale.evals.clusters import Z95
from speechscale.evals.conventions import PRESETS
from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import open_benchmarks
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.scores import SpecialTokens, TaskAccuracy, read_score_table, write_score_table
from speechscale.records.seeds import spawn_seed
from speechscale.records.shards import open_shards
from speechscale.speech.storyworld.corpus import BENCHMARKS, TRAIN, WorldSpec, write_story_corpus
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.encode import encode_shard, plan_shards
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import CodebookTask, fit_codebook
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks

WANTED = (0.92, 0.98)
SHARD_SECONDS = 600
# The smallest model of the study nano.
SHAPE = {"layers": 2, "dim": 32, "heads": 1, "context": 256, "hidden_multiple": 16}


@dataclass(frozen=True)
class ScoringTask:
    """One untrained model, and where its score table goes."""

    benchmarks: Path
    table: Path
    seed: int


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--benchmarks", type=Path, help="folder of labelled shards")
    parser.add_argument("--work", type=Path, default=Path("/tmp/chance"), help="for shards and score tables")
    parser.add_argument("--items", type=int, default=300, help="of each task, where they are spoken")
    parser.add_argument("--items-per-phenomenon", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    benchmarks = options.benchmarks or spoken_benchmarks(
        options.work, options.items, options.items_per_phenomenon
    )
    tasks = [
        ScoringTask(benchmarks, options.work / "tables" / f"{number:04d}.parquet", seed)
        for number in range(options.models)
        for seed in [spawn_seed(options.seed, "untrained", str(number))]
    ]
    missing = [task for task in tasks if not task.table.exists()]
    for _ in run_tasks(score_untrained, missing, label="untrained models", backend=LocalBackend(cores())):
        pass
    print_table([task_accuracies(read_score_table(task.table), PRESETS["official"]) for task in tasks])


def cores() -> int:
    """Cores of this machine that are free for workers."""
    return available_cores()


def spoken_benchmarks(work: Path, items: int, items_per_phenomenon: int) -> Path:
    """Units of the items of the small story world, both conditions; made once."""
    units = work / "units"
    if units.exists():
        return units
    world = WorldSpec(
        prose=1000,
        stories=200,
        test=10,
        items=items,
        items_per_phenomenon=items_per_phenomenon,
        voices=("en-us",),
        voices_unseen=("en-us+f2", "en-us+m3", "en-gb-x-rp"),
        words_per_minute=300,
    )
    write_story_corpus(world, work / "corpus")
    book = work / "codebook.safetensors"
    train = SpeechSource(work / "corpus" / TRAIN, work / "corpus", load_waveforms)
    kmeans = KMeansSpec(clusters=100, utterances=200)
    fit_codebook(CodebookTask(train, MelEncoder(MelSpec()).identity, kmeans, book))
    source = SpeechSource(work / "corpus" / BENCHMARKS, work / "corpus", load_waveforms)
    shards = plan_shards(source, book, units, seconds=SHARD_SECONDS)
    for _ in run_tasks(encode_shard, shards, label="speech to units", backend=LocalBackend(cores())):
        pass
    return units


def score_untrained(task: ScoringTask) -> None:
    """Score one model with random weights on all pairs."""
    torch.set_num_threads(1)
    vocabulary = open_shards(task.benchmarks)[0].vocabulary_size
    torch.manual_seed(task.seed)
    model = Transformer(ModelShape(vocabulary=vocabulary, **SHAPE), "modern").eval()
    eos = model.shape.eos
    table = score_pairs(
        model,
        open_benchmarks([task.benchmarks]).pairs,
        SpecialTokens(before_first=eos, closing=eos, unit_0=0),
        dtype=torch.float32,
    )
    task.table.parent.mkdir(parents=True, exist_ok=True)
    write_score_table(table, task.table)


def print_table(models: Sequence[Sequence[TaskAccuracy]]) -> None:
    """One line for each task, condition and phenomenon."""
    by_score: dict[str, list[TaskAccuracy]] = defaultdict(list)
    for accuracies in models:
        for each in accuracies:
            by_score[score_name(each)].append(each)
    print(f"{len(models)} untrained models {SHAPE}")
    print(f"{'score':<52}{'items':>6}{'mean':>7}{'sd':>7}{'assumed':>9}  holds 0.5")
    held = []
    for name, scores in by_score.items():
        values = np.array([each.accuracy for each in scores])
        assumed = math.sqrt(np.mean([((each.high - each.low) / 2 / Z95) ** 2 for each in scores]))
        share = float(np.mean([each.low <= 0.5 <= each.high for each in scores]))
        held.append(share)
        mark = "" if WANTED[0] <= share <= WANTED[1] else "  <"
        print(
            f"{name:<52}{scores[0].items:>6}{values.mean():>7.3f}{values.std(ddof=1):>7.3f}{assumed:>9.3f}"
            f"{share:>10.1%}{mark}"
        )
    inside = sum(WANTED[0] <= share <= WANTED[1] for share in held)
    print(f"{inside} of {len(held)} inside 92-98 %; shares {min(held):.1%} to {max(held):.1%}")


def score_name(each: TaskAccuracy) -> str:
    """Task, part and condition in words."""
    name = ".".join(filter(None, (each.task, each.part)))
    return f"{name} ({each.condition}), over {each.mean_over}"


if __name__ == "__main__":
    main()
