"""Speed of scoring short pairs and stories with a shared prompt, and equality of the accuracies.

The baseline runs in the same process on the same model and follows the released code of the study: every member by
itself, in batches of 16 in the given order, padded to the longest of the batch, logits of all positions, in float32. A
second baseline does the same in the precision of the measured code. The measured code (`score_pairs`) sorts by length,
fills batches by tokens, computes logits only where a token is predicted, and reads the common prefix of a pair once.
Lengths are those of sBLIMP and StoryCloze in collapsed 25 Hz units.

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
    arguments = options.parse_args()
    device = choose_device()
    dtypes = dict.fromkeys([torch.float32, choose_dtype("auto", device)])
    for size in arguments.size:
        model = random_model(SIZES[size]).to(device)
        rng = np.random.default_rng(0)
        sets = {
            "short pairs": short_pairs(rng, arguments.pairs, arguments.shared),
            "stories": stories(rng, arguments.stories),
        }
        for name, pairs in sets.items():
            for dtype in dtypes:
                compare(
                    f"{size}, {name}, {str(dtype).removeprefix('torch.')}",
                    model,
                    pairs,
                    dtype,
                    arguments.rounds,
                )


def random_model(shape: ModelShape) -> Transformer:
    """Random weights, larger than initial ones, so that pairs differ clearly in their likelihood."""
    torch.manual_seed(0)
    model = Transformer(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return model


def short_pairs(rng: np.random.Generator, count: int, shared: float) -> list[Pair]:
    """Lengths log-normal around 70, as of sentences of 4 to 12 words; the wrong member differs by a few units."""
    pairs = []
    for number in range(count):
        length = int(np.clip(rng.lognormal(np.log(66), 0.35), 20, 220))
        same = int(length * rng.uniform(0, 2 * shared))
        begin = rng.integers(0, UNITS, same)
        ends = [rng.integers(0, UNITS, max(1, length + rng.integers(-3, 4) - same)) for _ in range(2)]
        pairs.append(make_pair("sblimp", number, begin, ends))
    return pairs


def stories(rng: np.random.Generator, count: int) -> list[Pair]:
    """Four sentences that both members share, and an ending each."""
    pairs = []
    for number in range(count):
        prompt = rng.integers(0, UNITS, int(np.clip(rng.normal(275, 50), 150, 450)))
        ends = [rng.integers(0, UNITS, int(np.clip(rng.normal(60, 15), 20, 120))) for _ in range(2)]
        pairs.append(make_pair("tstorycloze", number, prompt, ends))
    return pairs


def make_pair(task: str, number: int, begin: np.ndarray, ends: list[np.ndarray]) -> Pair:
    correct, wrong = (np.concatenate([begin, end]).astype(np.int16) for end in ends)
    return Pair(task, str(number), str(number), correct, wrong)


@torch.inference_mode()
def score_like_the_study(model: Transformer, pairs: list[Pair], dtype: torch.dtype) -> np.ndarray:
    """Mean negative log-likelihoods, floats [pairs, 2], as in the released code of the study."""
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


def score(model: LanguageModel, pairs: list[Pair], dtype: torch.dtype) -> np.ndarray:
    table = score_pairs(model, pairs, SpecialTokens(before_first=EOS, closing=EOS), dtype=dtype)
    return np.stack(
        [
            table[f"nll_{which}"].to_numpy() / table[f"units_{which}"].to_numpy()
            for which in ("correct", "wrong")
        ],
        1,
    )


class WithoutSharedPrefix:
    """A model that cannot read two members of a pair as one row."""

    supports_shared_prefix = False

    def __init__(self, model: Transformer) -> None:
        self.model, self.vocabulary, self.context, self.device = (
            model,
            model.vocabulary,
            model.context,
            model.device,
        )

    def __call__(self, tokens_BT: torch.Tensor, **options: torch.Tensor | None) -> torch.Tensor:
        return self.model(tokens_BT, **options)


def compare(name: str, model: Transformer, pairs: list[Pair], dtype: torch.dtype, rounds: int) -> None:
    methods: dict[str, Callable[[], np.ndarray]] = {
        "study_float32": lambda: score_like_the_study(model, pairs, torch.float32),
        "study_same": lambda: score_like_the_study(model, pairs, dtype),
        "unshared": lambda: score(WithoutSharedPrefix(model), pairs, dtype),
        "measured": lambda: score(model, pairs, dtype),
    }
    means = {method: run() for method, run in methods.items()}
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(rounds):
        for method, run in methods.items():
            started = perf_counter()
            run()
            seconds[method].append(perf_counter() - started)
    speedup = {
        method: median(a / b for a, b in zip(seconds[method], seconds["measured"], strict=True))
        for method in methods
    }
    accuracy = {method: (nll[:, 0] < nll[:, 1]).mean() for method, nll in means.items()}
    difference = np.abs(means["measured"] - means["study_float32"]).max()
    print(
        f"{name:<32} {len(pairs) / median(seconds['measured']):8.1f} pairs/s, "
        f"{speedup['study_float32']:.2f} x the study's code in float32, "
        f"{speedup['study_same']:.2f} x the study's code in the same precision, "
        f"{speedup['unshared']:.2f} x without shared prefixes; "
        f"accuracies {accuracy['measured']:.4f} and {accuracy['study_float32']:.4f}, "
        f"scores differ by {difference:.1e} at most",
        flush=True,
    )


if __name__ == "__main__":
    main()
