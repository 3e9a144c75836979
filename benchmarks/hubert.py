"""Speed and exactness of HuBERT on utterances of 2–15 s, in our batches, in float32 and bfloat16.

Baseline, in the same run and on the same device: transformers' forward pass, one utterance at a time, float32, all
hidden states. The model is random, of the base size and mHuBERT's geometry; layer 11, as in the paper. On a CPU both
methods are timed in one process with a thread per core, and in one single-threaded process per core, which is how
shards are made. The methods alternate, and a ratio is the median over the rounds.

    python benchmarks/hubert.py --minutes 1
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
import transformers

from speechscale.compute import ComputeOptions
from speechscale.records.manifest import SAMPLE_RATE
from speechscale.units.encoders import encoder_identity, load_encoder
from speechscale.units.kmeans import KMeansSpec, train_kmeans

LAYER = 11
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = len(os.sched_getaffinity(0))
METHODS = ("one at a time, float32", "ours, float32", "ours, bfloat16")
Encode = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
_worker: dict[str, Encode] = {}


def random_model(folder: Path) -> str:
    """HuBERT base with the geometry of mHuBERT-25Hz and norms that are not the identity."""
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        conv_dim=(512,) * 8,
        conv_kernel=(10, 3, 3, 3, 3, 2, 2, 2),
        conv_stride=(5, 2, 2, 2, 2, 2, 2, 2),
        conv_pos_batch_norm=True,
    )
    model = transformers.HubertModel(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, 0.0, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.3, 3.0)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.GroupNorm | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    model.save_pretrained(folder)
    return str(folder)


def utterances(minutes: float) -> list[np.ndarray]:
    """Gliding tones in noise, 2 to 15 s each."""
    rng = np.random.default_rng(0)
    waves: list[np.ndarray] = []
    while sum(map(len, waves)) < 60 * minutes * SAMPLE_RATE:
        count = int(rng.uniform(2, 15) * SAMPLE_RATE)
        steps = -(-count // 1600)
        loud, pitch = (np.repeat(rng.uniform(*r, steps), 1600)[:count] for r in ((0, 0.3), (80, 3000)))
        tone = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) + 0.3 * rng.standard_normal(count)
        waves.append((loud * tone).astype(np.float32))
    return waves


def make_encode(name: str, folder: str, batch_seconds: float) -> Encode:
    if name == METHODS[0]:
        model: Any = transformers.HubertModel.from_pretrained(folder).eval().to(DEVICE)

        @torch.inference_mode()
        def one_at_a_time(waves: Sequence[np.ndarray]) -> list[np.ndarray]:
            inputs = (torch.from_numpy(wave)[None].to(DEVICE) for wave in waves)
            return [
                model(wave, output_hidden_states=True).hidden_states[LAYER][0].cpu().numpy()
                for wave in inputs
            ]

        return one_at_a_time
    compute = ComputeOptions(DEVICE, name.split()[-1], batch_seconds)  # type: ignore[arg-type]
    return load_encoder(encoder_identity(folder, {"layer": LAYER}), compute).encode


def start_worker(*arguments: Any) -> None:
    torch.set_num_threads(1)
    silence_transformers()
    _worker["encode"] = make_encode(*arguments)


def count_frames(waves: Sequence[np.ndarray]) -> int:
    return sum(map(len, _worker["encode"](waves)))


def silence_transformers() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def in_processes(
    waves: list[np.ndarray], folder: str, batch_seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each round with one single-threaded process per core, without loading."""
    ordered = sorted(waves, key=len)
    parts = [ordered[core::CORES] for core in range(CORES)]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(CORES, context, start_worker, (name, folder, batch_seconds))
            )
            for name in METHODS
        }
        for pool in pools.values():
            list(pool.map(count_frames, [part[:1] for part in parts]))
        return rounds_of(
            {n: lambda pool=pool: list(pool.map(count_frames, parts)) for n, pool in pools.items()}, rounds
        )


def rounds_of(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; the runs alternate, so that a busy machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = perf_counter()
            run()
            seconds[name].append(perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of audio")
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    silence_transformers()
    waves = utterances(options.minutes)
    audio = sum(map(len, waves)) / SAMPLE_RATE
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{CORES} CPU cores"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{len(waves)} utterances, {audio:.0f} s")
    with tempfile.TemporaryDirectory() as place:
        folder = random_model(Path(place))
        encoders = {name: make_encode(name, folder, options.batch_seconds) for name in METHODS}
        found = {name: encode(waves) for name, encode in encoders.items()}
        whole = rounds_of(
            {n: lambda encode=encode: encode(waves) for n, encode in encoders.items()}, options.rounds
        )
        report("on the GPU" if DEVICE == "cuda" else f"one process, {CORES} threads", whole, audio)
        if DEVICE == "cpu":
            apart = in_processes(waves, folder, options.batch_seconds, options.rounds)
            report(f"{CORES} processes, 1 thread each", apart, audio)
    exactness(found)


def report(where: str, seconds: dict[str, list[float]], audio: float) -> None:
    for name, spent in seconds.items():
        ratio = median(base / mine for base, mine in zip(seconds[METHODS[0]], spent, strict=True))
        print(f"{where}: {name}: {audio / min(spent):.1f} x real time, {ratio:.2f} x one at a time")


def exactness(found: dict[str, list[np.ndarray]]) -> None:
    frames = {name: np.concatenate(parts) for name, parts in found.items()}
    wanted = frames[METHODS[0]]
    book = train_kmeans(wanted, KMeansSpec(clusters=min(500, len(wanted) // 2), iterations=5), {})
    units = book.assign(wanted)
    for name in METHODS[1:]:
        error = (np.linalg.norm(frames[name] - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max()
        same = (book.assign(frames[name]) == units).mean()
        print(
            f"{name}: largest relative error of a frame {error:.1e}, {same:.3%} of {len(units)} units identical"
        )


if __name__ == "__main__":
    main()
