"""How fast pairs are scored, on one core: items a second, sorted by length against the order they come in.

The baseline, in the same run, pads batches of 16 in their given order, as the study's released code does.

    python benchmarks/scoring.py
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
import torch

from speechscale.model.likelihood import Piece, _score, negative_log_likelihoods
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer

ROUNDS = 5
SHAPE = ModelShape(layers=4, dim=128, heads=2, vocabulary=102, context=256, hidden_multiple=16)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Transformer(SHAPE).eval()
    rng = np.random.default_rng(0)
    members = [rng.integers(0, 100, int(length)).astype(np.int16) for length in rng.integers(8, 120, 1000)]

    def unsorted() -> np.ndarray:
        pieces = [Piece(i, np.append(100, member).astype(np.int64), 0) for i, member in enumerate(members)]
        batches = [pieces[i : i + 16] for i in range(0, len(pieces), 16)]
        return np.concatenate([_score(model, batch, torch.float32) for batch in batches])

    def ours() -> np.ndarray:
        return negative_log_likelihoods(model, members, bos=100, dtype=torch.float32)

    assert np.allclose(unsorted(), ours(), rtol=1e-4)
    spent: dict[str, list[float]] = {"ours": [], "unsorted": []}
    for _ in range(ROUNDS):
        for name, way in (("ours", ours), ("unsorted", unsorted)):
            started = perf_counter()
            way()
            spent[name].append(perf_counter() - started)
    units = sum(map(len, members))
    print(
        f"ours: {len(members) / 2 / median(spent['ours']):.0f} pairs/s, {units / median(spent['ours']):.0f} units/s"
    )
    ratio = median(b / a for a, b in zip(spent["ours"], spent["unsorted"], strict=True))
    print(f"{ratio:.2f} x the pairs a second of batches of 16 in the given order")


main()
