"""How fast pairs are scored: short ones, and stories that share their prompt; and that the accuracies stay the same.

The baseline, in the same run and on the same checkpoint, is the way of the study's released code: every member by
itself, in batches of 16 in their given order, padded to the longest of the batch, logits of all positions, in float32;
and once more in the precision of ours.
What is ours sorts by length, fills batches by tokens, computes logits where something is predicted, and reads what both
members of a pair begin with once. Lengths are those of sBLIMP and StoryCloze in collapsed 25 Hz units.

    python benchmarks/eval.py
    python benchmarks/eval.py --pairs 100 --stories 24 --size nano
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from speechscale.compute import choose_device, choose_dtype
from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import Pair
from speechscale.model.protocol import LanguageModel
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.scores import SpecialTokens

UNITS, EOS = 500, 500
SIZES = {
    "20M": ModelShape(layers=6, dim=512, heads=8, vocabulary=502, context=2050),
    "nano": ModelShape(layers=4, dim=128, heads=2, vocabulary=502, context=512, hidden_multiple=16),
}
BATCH = 16


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--pairs", type=int, default=200)
    options.add_argument("--stories", type=int, default=40)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--size", choices=SIZES, nargs="*", default=list(SIZES))
    options.add_argument(
        "--shared",
        type=float,
        default=0.39,
        help="of a short pair's units, on average; nano's minimal pairs: 0.39",
    )
    asked = options.parse_args()
    device = choose_device()
    dtypes = dict.fromkeys([torch.float32, choose_dtype("auto", device)])
    for size in asked.size:
        model = a_model(SIZES[size]).to(device)
        rng = np.random.default_rng(0)
        sets = {
            "short pairs": short_pairs(rng, asked.pairs, asked.shared),
            "stories": stories(rng, asked.stories),
        }
        for name, pairs in sets.items():
            for dtype in dtypes:
                compare(
                    f"{size}, {name}, {str(dtype).removeprefix('torch.')}", model, pairs, dtype, asked.rounds
                )


def a_model(shape: ModelShape) -> Transformer:
    """Random weights, larger than initial ones, so that pairs differ clearly in their likelihood."""
    torch.manual_seed(0)
    model = Transformer(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return model


def short_pairs(rng: np.random.Generator, count: int, shared: float) -> list[Pair]:
    """Lengths log-normal around 70, as of sentences of 4 to 12 words; the twin differs by a few units."""
    pairs = []
    for number in range(count):
        length = int(np.clip(rng.lognormal(np.log(66), 0.35), 20, 220))
        same = int(length * rng.uniform(0, 2 * shared))
        begin = rng.integers(0, UNITS, same)
        ends = [rng.integers(0, UNITS, max(1, length + rng.integers(-3, 4) - same)) for _ in range(2)]
        pairs.append(a_pair("sblimp", number, begin, ends))
    return pairs


def stories(rng: np.random.Generator, count: int) -> list[Pair]:
    """Four sentences that both members share, and an ending each."""
    pairs = []
    for number in range(count):
        prompt = rng.integers(0, UNITS, int(np.clip(rng.normal(275, 50), 150, 450)))
        ends = [rng.integers(0, UNITS, int(np.clip(rng.normal(60, 15), 20, 120))) for _ in range(2)]
        pairs.append(a_pair("tstorycloze", number, prompt, ends))
    return pairs


def a_pair(task: str, number: int, begin: np.ndarray, ends: list[np.ndarray]) -> Pair:
    correct, wrong = (np.concatenate([begin, end]).astype(np.int16) for end in ends)
    return Pair(task, str(number), str(number), correct, wrong)


@torch.inference_mode()
def plain(model: Transformer, pairs: list[Pair], dtype: torch.dtype) -> np.ndarray:
    """Mean negative log-likelihoods [pairs, 2], the way of the study's released code."""
    members = [member for pair in pairs for member in (pair.correct, pair.wrong)]
    means: list[np.ndarray] = []
    for start in range(0, len(members), BATCH):
        batch = members[start : start + BATCH]
        lengths = torch.tensor([len(member) for member in batch])
        tokens = torch.full((len(batch), int(lengths.max()) + 1), EOS)
        for row, member in zip(tokens, batch, strict=True):
            row[1 : len(member) + 1] = torch.from_numpy(member.astype(np.int64))
        tokens = tokens.to(model.device)
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            logits = model(tokens[:, :-1])
        nll = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")
        counted = torch.arange(nll.shape[1])[None] < lengths[:, None]
        means.append(((nll.cpu() * counted).sum(1) / lengths).numpy())
    return np.concatenate(means).reshape(-1, 2)


def ours(model: LanguageModel, pairs: list[Pair], dtype: torch.dtype) -> np.ndarray:
    table = score_pairs(model, pairs, SpecialTokens(before_first=EOS, closing=EOS), dtype=dtype)
    return np.stack(
        [
            table[f"nll_{which}"].to_numpy() / table[f"units_{which}"].to_numpy()
            for which in ("correct", "wrong")
        ],
        1,
    )


class Apart:
    """A model that reads every member of a pair by itself: what is ours, without sharing."""

    supports_shared_prefix = False

    def __init__(self, model: Transformer) -> None:
        self.model, self.vocabulary, self.context, self.device = (
            model,
            model.vocabulary,
            model.context,
            model.device,
        )

    def __call__(self, tokens_BT: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        return self.model(tokens_BT, **given)


def compare(name: str, model: Transformer, pairs: list[Pair], dtype: torch.dtype, rounds: int) -> None:
    ways: dict[str, Callable[[], np.ndarray]] = {
        "plain": lambda: plain(model, pairs, torch.float32),
        "alike": lambda: plain(model, pairs, dtype),
        "apart": lambda: ours(Apart(model), pairs, dtype),
        "ours": lambda: ours(model, pairs, dtype),
    }
    found = {way: score() for way, score in ways.items()}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, score in ways.items():
            started = perf_counter()
            score()
            spent[way].append(perf_counter() - started)
    ratio = {way: median(a / b for a, b in zip(spent[way], spent["ours"], strict=True)) for way in ways}
    right = {way: (means[:, 0] < means[:, 1]).mean() for way, means in found.items()}
    print(
        f"{name:<32} {len(pairs) / median(spent['ours']):8.1f} pairs/s, {ratio['plain']:.2f} x plain in float32, "
        f"{ratio['alike']:.2f} x plain in the same precision, "
        f"{ratio['apart']:.2f} x without sharing; accuracies {right['ours']:.4f} and {right['plain']:.4f}, "
        f"scores differ by {np.abs(found['ours'] - found['plain']).max():.1e} at most",
        flush=True,
    )


if __name__ == "__main__":
    main()
