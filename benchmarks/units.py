"""How fast a waveform becomes units, on one core: log-mel, k-means, collapse; audio seconds and units a second.

Baseline, in the same run: the log-mel frames of scipy.signal.ShortTimeFFT at the same window and hop.

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

    spent: dict[str, list[float]] = {"ours": [], "scipy": []}
    for _ in range(ROUNDS):
        for name, way in (("ours", ours), ("scipy", scipy_frames)):
            started = perf_counter()
            count = way()
            spent[name].append(perf_counter() - started)
            if name == "ours":
                units = count
    audio = sum(map(len, WAVES)) / SAMPLE_RATE
    print(
        f"ours: {audio / median(spent['ours']):.0f} x real time, {units / median(spent['ours']):.0f} units/s"
    )
    ratio = median(a / b for a, b in zip(spent["ours"], spent["scipy"], strict=True))
    print(f"ours (frames, units, collapse) / scipy (frames alone) time: {ratio:.2f}")


main()
