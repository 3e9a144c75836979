"""Time and memory to open a corpus for training, and speed of batches: shards, windows, batches.

Each method runs in a fresh process, on shards of 300-unit utterances in a temporary folder. Every file is read once
before, so that all methods find the files in the page cache. Baseline, in the same run: the checks of the released code
at every open, reimplemented here (it parses every `samples.jsonl` and passes over all units twice, for their range and
for the EOS at each end), and batches from one array in memory. Batches per second are those of the second epoch. The
first epoch, in which pages are mapped on first access, is listed with the opening.

    python benchmarks/reading.py [--shards 100] [--units 2000000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from speechscale.records.shards import SCHEMA_VERSION, open_shards
from speechscale.tokens.batches import Windows

UTTERANCE, EOS = 300, 500  # units
CONTEXT, BATCH, ROUNDS = 2050, 64, 3


def make_shard(folder: Path, number: int, units: int) -> None:
    """Write a shard directly, without the checks of `write_shard`."""
    folder.mkdir()
    count = units // UTTERANCE
    lengths = np.full(count, UTTERANCE, dtype="<i8")
    flat = np.random.default_rng(number).integers(0, EOS, (count, UTTERANCE), dtype="<i2")
    flat[:, -1] = EOS
    (folder / "audio.bin").write_bytes(flat.tobytes())
    (folder / "audio.len").write_bytes(lengths.tobytes())
    row = {"audio_steps": UTTERANCE, "dataset": "made", "seconds": 12.0, "source_offset": 0.0, "speaker": "v"}
    rows = (json.dumps({**row, "id": f"{number}-{i}", "split": "train"}) + "\n" for i in range(count))
    (folder / "samples.jsonl").write_text("".join(rows))
    (folder / "skips.jsonl").write_text("")
    meta = {
        "schema_version": SCHEMA_VERSION,
        "num_samples": count,
        "num_audio_steps": int(lengths.sum()),
        "num_skipped": 0,
        "seconds": 12.0 * count,
        "preprocessing": {"vocab_size": EOS + 2, "eos_token": EOS, "pad_token": EOS + 1},
        "checksums": {},
    }
    (folder / "meta.json").write_text(json.dumps(meta))


def ours(root: Path) -> Callable[[int], np.ndarray]:
    windows = Windows(open_shards(root), CONTEXT)
    return lambda step: windows.batch(0, step, BATCH)


def released(root: Path) -> Callable[[int], np.ndarray]:
    """The checks of the released code, then windows of one array in memory."""
    parts = []
    for folder in sorted(root.iterdir()):
        lengths = np.fromfile(folder / "audio.len", dtype="<i8")
        units = np.memmap(folder / "audio.bin", dtype="<i2", mode="r")
        with (folder / "samples.jsonl").open() as stream:
            rows = [json.loads(line) for line in stream]
        assert [row["audio_steps"] for row in rows] == lengths.tolist()
        assert units.min() >= 0 and units.max() <= EOS
        assert (units[np.cumsum(lengths) - 1] == EOS).all() and (units == EOS).sum() == len(lengths)
        parts.append(units)
    stream = np.concatenate(parts)
    count = (len(stream) - 1) // CONTEXT
    order = np.concatenate([np.random.default_rng([0, epoch]).permutation(count) for epoch in range(3)])

    def batch(step: int) -> np.ndarray:
        starts = order[step * BATCH : (step + 1) * BATCH] * CONTEXT
        return np.stack([stream[start : start + CONTEXT + 1] for start in starts]).astype(np.int64)

    return batch


def measure(
    method: Callable[[Path], Callable[[int], np.ndarray]], root: Path, epoch: int
) -> dict[str, float]:
    """Seconds, growth of peak memory in MB, batches per second, and a sum of tokens for comparison."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = perf_counter()
    batch = method(root)
    opened = perf_counter()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    total = sum(int(batch(step)[:, 0].sum()) for step in range(epoch))
    first = perf_counter()
    total += sum(int(batch(step)[:, 0].sum()) for step in range(epoch, 2 * epoch))
    return {
        "open": opened - started,
        "first": first - opened,
        "grown": grown,
        "batches": epoch / (perf_counter() - first),
        "total": total,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--units", type=int, default=2_000_000)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        root = Path(name)
        for number in range(options.shards):
            make_shard(root / f"shard-{number:05d}", number, options.units)
        for file in root.rglob("*.*"):
            file.read_bytes()
        epoch = options.shards * (options.units // UTTERANCE * UTTERANCE) // CONTEXT // BATCH
        found: dict[str, list[dict[str, float]]] = {"ours": [], "released": []}
        for _ in range(ROUNDS):
            for method in (ours, released):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                    found[method.__name__].append(fresh.submit(measure, method, root, epoch).result())
    assert len({one["total"] for rounds in found.values() for one in rounds}) == 1  # the same batches
    print(
        f"{options.shards} shards, {options.shards * options.units / 1e6:.0f} M units; "
        f"batches of {BATCH} x {CONTEXT}"
    )
    for name, rounds in found.items():
        medians = {key: median(one[key] for one in rounds) for key in rounds[0]}
        print(
            f"{name:>9}: open {medians['open']:.3f} s, {medians['grown']:.0f} MB more memory; "
            f"first epoch {medians['first']:.2f} s; then {medians['batches']:.0f} batches/s"
        )
    pairs = list(zip(found["ours"], found["released"], strict=True))
    print(f"open, ours / released time: {median(a['open'] / b['open'] for a, b in pairs):.4f}")
    print(
        f"batches a second, ours / one array in memory: {median(a['batches'] / b['batches'] for a, b in pairs):.2f}"
    )


if __name__ == "__main__":
    main()
