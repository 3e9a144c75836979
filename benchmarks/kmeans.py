"""Speed of k-means: K = 500 on 1 M frames of 768 dimensions, as ratios of time to equal or lower inertia.

Baselines, in the same run: scikit-learn's MiniBatchKMeans with its defaults, and with the usual settings of fairseq's
learn_kmeans (batches of 10,000, 20 starts, patience of 100 batches). Inertia is over all frames. Ours is timed with the
cheapest of a list of settings that reaches the inertia of the baseline, and with its defaults.

The frames are a mixture of 4,000 overlapping components of Zipf-distributed sizes with correlated dimensions, the first
few with most of the variance, like hidden states of speech models.

    python benchmarks/kmeans.py
    python benchmarks/kmeans.py --frames 100000 --rounds 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from speechscale.units.kmeans import KMeansSpec, train_kmeans

BLOCK = 16_384  # frames
FAIRSEQ = {
    "batch_size": 10_000,
    "max_iter": 100,
    "n_init": 20,
    "max_no_improvement": 100,
    "reassignment_ratio": 0.0,
    "tol": 0.0,
}
BASELINES: dict[str, dict[str, object]] = {"defaults": {}, "fairseq": FAIRSEQ}
# cheapest first: the share of the frames, and the tolerance
SETTINGS = [
    (1 / 16, 1e-2),
    (1 / 8, 1e-2),
    (1 / 4, 5e-3),
    (3 / 8, 5e-3),
    (1 / 2, 5e-3),
    (3 / 4, 5e-3),
    (1, 1e-2),
    (1, 1e-4),
]
DEFAULTS = (1, 1e-4)


def make_frames(count: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    rank, components = min(128, dimension), 4000
    spread = (np.arange(1, rank + 1) ** -0.5).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((dimension, rank)))[0].astype(np.float32)
    means = spread * rng.standard_normal((components, rank), dtype=np.float32)
    sizes = 1 / np.arange(1, components + 1)
    frames = np.empty((count, dimension), dtype=np.float32)
    for block in np.array_split(frames, -(-count // BLOCK)):
        chosen = rng.choice(components, len(block), p=sizes / sizes.sum())
        inner = means[chosen] + 0.8 * spread * rng.standard_normal((len(block), rank), dtype=np.float32)
        block[:] = inner @ basis.T + 0.03 * rng.standard_normal(block.shape, dtype=np.float32)
    return frames


def inertia(frames: np.ndarray, centroids: np.ndarray) -> float:
    """Mean squared distance of a frame to its centroid."""
    half = (centroids**2).sum(axis=1) / 2
    total = 0.0
    for block in np.array_split(frames, -(-len(frames) // BLOCK)):
        total += float(np.square(block).sum(dtype=np.float64))
        total += 2 * float((half - block @ centroids.T).min(axis=1).sum(dtype=np.float64))
    return total / len(frames)


def timed(frames: np.ndarray, learn: Callable[[], np.ndarray]) -> tuple[float, float]:
    """Seconds and inertia."""
    started = perf_counter()
    centroids = learn()
    return perf_counter() - started, inertia(frames, centroids)


def scikit_learn(frames: np.ndarray, clusters: int, seed: int, **settings: object) -> np.ndarray:
    model = MiniBatchKMeans(clusters, random_state=seed, compute_labels=False, **settings)
    return model.fit(frames).cluster_centers_


def ours(frames: np.ndarray, clusters: int, seed: int, share: float, tolerance: float) -> np.ndarray:
    spec = KMeansSpec(clusters=clusters, seed=seed, tolerance=tolerance)
    book = train_kmeans(frames[: int(len(frames) * share)], spec, {})
    return book.centroids * np.float32(book.scale) + book.mean


def run_ours(
    frames: np.ndarray, setting: tuple[float, float], clusters: int, seed: int
) -> tuple[float, float]:
    """Seconds and inertia of ours; printed."""
    seconds, reached = timed(frames, partial(ours, frames, clusters, seed, *setting))
    mark = "  (defaults)" if setting == DEFAULTS else ""
    print(
        f"ours, {setting[0]:.0%} of frames, tolerance {setting[1]}: {seconds:.2f} s, inertia {reached:.4f}{mark}"
    )
    return seconds, reached


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--baseline", choices=BASELINES, action="append", help="default: both; fairseq's takes very long"
    )
    options = parser.parse_args()
    baselines = options.baseline or list(BASELINES)
    frames = make_frames(options.frames, options.dimension, np.random.default_rng(0))
    ours(frames[:BLOCK], 2, 0, *DEFAULTS)  # loads torch
    ratios: dict[str, list[float]] = {name: [] for name in baselines}
    for seed in range(options.rounds):
        found = [run_ours(frames, setting, options.clusters, seed) for setting in SETTINGS]
        for name in baselines:
            learn = partial(scikit_learn, frames, options.clusters, seed, **BASELINES[name])
            seconds, goal = timed(frames, learn)
            fast_enough = [spent for spent, reached in found if reached <= goal]
            ratio = seconds / fast_enough[0] if fast_enough else 0.0
            ratios[name].append(ratio)
            print(
                f"scikit-learn, {name}: {seconds:.2f} s, inertia {goal:.4f}; ours is {ratio:.1f} times as fast",
                flush=True,
            )
    for name, some in ratios.items():
        print(f"MiniBatchKMeans ({name}) / ours, time to the same inertia: {median(some):.1f}")


main()
