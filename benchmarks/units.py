"""Speed of log-mel units on one core: log-mel, k-means and collapsing, in audio seconds and units per second.

Baseline, in the same run: the log-mel frames alone, by scipy.signal.ShortTimeFFT with the same window and hop.

    OMP_NUM_THREADS=1 python benchmarks/units.py
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
from scipy.signal import ShortTimeFFT

from speechscale.records.manifest import SAMPLE_RATE
from speechscale.units.collapse import collapse
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

SPEC = MelSpec()
ROUNDS = 7
WAVES = [np.random.default_rng(i).standard_normal(4 * SAMPLE_RATE).astype(np.float32) for i in range(100)]


def main() -> None:
    encoder = MelEncoder(SPEC)
    book = train_kmeans(
        np.concatenate(encoder.encode(WAVES)),
        KMeansSpec(clusters=100, iterations=5),
        encoder.identity,
    )
    reference = ShortTimeFFT(np.hanning(SPEC.window), SPEC.hop, SAMPLE_RATE)
    filters = np.random.default_rng(0).random((SPEC.window // 2 + 1, SPEC.bands))

    def ours() -> int:
        return sum(len(collapse(book.assign(frames))[0]) for frames in encoder.encode(WAVES))

    def scipy_frames() -> int:
        return sum(np.log(np.abs(reference.stft(wave)).T @ filters + SPEC.floor).shape[0] for wave in WAVES)

    seconds: dict[str, list[float]] = {"ours": [], "scipy": []}
    for _ in range(ROUNDS):
        for name, method in (("ours", ours), ("scipy", scipy_frames)):
            started = perf_counter()
            count = method()
            seconds[name].append(perf_counter() - started)
            if name == "ours":
                units = count
    audio = sum(map(len, WAVES)) / SAMPLE_RATE
    print(
        f"ours: {audio / median(seconds['ours']):.0f} x real time, {units / median(seconds['ours']):.0f} units/s"
    )
    ratio = median(a / b for a, b in zip(seconds["ours"], seconds["scipy"], strict=True))
    print(f"ours (frames, units, collapse) / scipy (frames alone) time: {ratio:.2f}")


main()
