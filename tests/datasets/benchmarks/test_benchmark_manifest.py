"""The manifest of a benchmark, whatever its layout."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

from benchmark_files import short_wav
from corpus_files import lines

from speechscale.datasets.benchmarks import open_benchmark
from speechscale.datasets.benchmarks.benchmark_manifest import write_benchmark_manifest


def test_memory_is_flat_in_the_number_of_items(tmp_path: Path, out: Path) -> None:
    """Three hundred items more cost less than 100 bytes a recording at the peak."""
    short_wav(tmp_path / "b" / "a.wav")
    peaks = []
    for count in (100, 400):
        rows = (
            {
                "id": f"{i}-{c}",
                "task": "t",
                "group_id": f"g{i}",
                "pair_id": f"g{i}/v",
                "correct": c,
                "audio": "a.wav",
            }
            for i in range(count)
            for c in (0, 1)
        )
        path = lines(tmp_path / "b" / f"{count}.jsonl", rows)
        tracemalloc.start()
        assert write_benchmark_manifest(open_benchmark(path, "jsonl"), out).pairs.total() == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(later - earlier < 300 * 2 * 100 for earlier, later in pairwise(peaks))
