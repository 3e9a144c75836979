"""Speed of a training step, against the study's released step and a Hugging Face Llama.

Baselines, in the same run and interleaved with ours step by step: *plain*, the recipe of the study's released code in
eager float32 (separate projections, rotary pairs of neighbouring numbers, unfused AdamW, a loss read at every step),
and *hub*, `LlamaForCausalLM` of transformers at the same size with the same optimiser. Ours is `Trainer` with its
defaults and with `compile = true`. Prints tokens per second, medians of the ratios by round, and the share of the time
that steps wait for data.

    python benchmarks/train.py                   # speed at all sizes, about ten minutes on two cores
    python benchmarks/train.py --sizes tiny      # the smallest size of the nano ladders
    python benchmarks/train.py --losses 200      # losses of the same updates in float32, by default and compiled
    python benchmarks/train.py --start 10e9      # start-up with so many tokens on disk, in sparse files
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechscale.records.shards import Sample, open_shards, shards_identity, write_shard
from speechscale.tokens.batches import Windows
from speechscale.tokens.mixture import Mixture, TrainingCorpus
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import Trainer
from speechscale.train.validate import require_held_out

VOCABULARY = 502
SIZES = {
    "20M": {"layers": 6, "dim": 512, "heads": 8, "context": 2050, "batch": 1},
    "3.5M": {"layers": 4, "dim": 256, "heads": 4, "context": 512, "batch": 8},
    "tiny": {"layers": 2, "dim": 64, "heads": 1, "context": 256, "batch": 4, "hidden_multiple": 16},
}
Step = Callable[[int], float]


def make_spec(size: str, **choices: object) -> RunSpec:
    return RunSpec.model_validate({"run": size, "tokens": 10**9, "preset": "paper", **SIZES[size], **choices})


class PlainNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.gain


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, dim, bias=False)
        self.before_attention, self.before_mlp = PlainNorm(dim), PlainNorm(dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        y = self.before_attention(x)
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)) for part in (self.query, self.key, self.value))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        y = self.before_mlp(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of neighbouring numbers, as the released weights have them."""
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), -1).flatten(-2)


class PlainModel(nn.Module):
    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        shape = spec.shape(VOCABULARY)
        self.embedding = nn.Embedding(VOCABULARY, shape.dim)
        self.blocks = nn.ModuleList(
            PlainBlock(shape.dim, shape.heads, shape.hidden) for _ in range(shape.layers)
        )
        self.norm = PlainNorm(shape.dim)
        rates = 10_000.0 ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.outer(torch.arange(shape.context), rates)
        self.cos, self.sin = angles.cos(), angles.sin()
        for matrix in (p for p in self.parameters() if p.ndim > 1):
            nn.init.normal_(matrix, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embedding.weight)


def hub_model(spec: RunSpec) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = spec.shape(VOCABULARY)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.dim,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            use_cache=False,
        )
    )


def plain_step(spec: RunSpec, model: nn.Module, windows: Windows, logits: Callable[[Tensor], Tensor]) -> Step:
    """The recipe of the released code for any model: batch, loss, clip, update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.95), weight_decay=0.1)

    def step(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        batch = torch.from_numpy(windows.batch(0, number, spec.batch))
        loss = F.cross_entropy(logits(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        found = loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return found

    return step


def training_steps(size: str, windows: Windows) -> dict[str, Step]:
    spec = make_spec(size)
    plain, hub = PlainModel(spec), hub_model(spec)
    return {
        "ours": Trainer(spec, VOCABULARY, windows).load_and_train_step,
        "ours, compiled": Trainer(make_spec(size, compile=True), VOCABULARY, windows).load_and_train_step,
        "plain": plain_step(spec, plain, windows, plain),
        "hub": plain_step(spec, hub, windows, lambda tokens: hub(input_ids=tokens).logits),
    }


def measure_speed(size: str, windows: Windows, rounds: int) -> None:
    steps = training_steps(size, windows)
    each = max(1, 8192 // (SIZES[size]["batch"] * SIZES[size]["context"]))  # steps per round
    seconds_by_name: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-1, rounds):
        for name, step in steps.items():
            started = perf_counter()
            for k in range(each):
                step(max(0, number) * each + k)
            if number >= 0:  # round -1 warms up and compiles
                seconds_by_name[name].append((perf_counter() - started) / each)
    spec = make_spec(size)
    shape = spec.shape(VOCABULARY)
    tokens = spec.batch * spec.context
    threads = torch.get_num_threads()
    print(f"{size}: N {shape.params:,}, {spec.batch} windows of {spec.context} a step, {threads} threads")
    for name, seconds in seconds_by_name.items():
        rate = tokens / median(seconds)
        ratios = [
            f"{median(b / a for a, b in zip(seconds, seconds_by_name[other], strict=True)):.2f} x {other}"
            for other in ("plain", "hub")
        ]
        print(
            f"  {name:<16}{rate:>10,.0f} tokens/s {1 / median(seconds):>9.2f} steps/s "
            f"{shape.flops_exact(1) * rate / 1e9:>7.0f} GFLOP/s   {', '.join(ratios)}",
            flush=True,
        )


def compare_losses(size: str, windows: Windows, steps: int) -> None:
    """Mean loss of the last tenth of `steps` updates, a whole schedule, by precision and compilation."""
    tokens = steps * SIZES[size]["batch"] * SIZES[size]["context"]
    ways = {"float32": {"precision": "float32"}, "default": {}, "compiled": {"compile": True}}
    ends = {}
    for name, choices in ways.items():
        trainer = Trainer(make_spec(size, tokens=tokens, **choices), VOCABULARY, windows)
        losses = [trainer.load_and_train_step(number) for number in range(steps)]
        ends[name] = float(np.mean(losses[-max(1, steps // 10) :]))
        print(
            f"  {size}: {name:<10} loss {ends[name]:.4f}, {ends[name] / ends['float32']:.4f} x float32",
            flush=True,
        )


def measure_waiting(size: str, windows: Windows, steps: int) -> None:
    """Share of the time that steps wait for data, with prefetching."""
    trainer = Trainer(make_spec(size), VOCABULARY, windows)
    with trainer.loader.prefetch(0, steps) as batches:
        started = perf_counter()
        for step, batch in enumerate(batches):
            trainer.train_step(step, batch)
        share = trainer.loader.wait_seconds / (perf_counter() - started)
    print(f"  {size}: {share:.3%} of {steps} steps spent waiting for data")


def measure_start(folder: Path, tokens: int) -> None:
    """Seconds and memory that a training needs before its first step, with so many tokens on disk.

    Ten shards of utterances of 300 units; the units are sparse files, the lengths are written.
    """
    for part in range(10):
        write_sparse_shard(folder / "train" / f"shard-{part:05d}", tokens // 10)
    write_shard(
        folder / "test" / "shard",
        [Sample("t", np.arange(501).astype(np.int16), 1.0, {})],
        [],
        preprocessing(),
    )
    before, started = resident_megabytes(), perf_counter()
    shards, test = open_shards(folder / "train"), open_shards(folder / "test")
    mixture = Mixture([TrainingCorpus(shards)], 2050)
    require_held_out(shards, test)
    shards_identity(shards)
    batch = mixture.batch(0, 0, 64)
    seconds = perf_counter() - started
    grown = resident_megabytes() - before
    print(
        f"  {mixture.unique_tokens:,} tokens: first batch of {batch.shape} after {seconds:.2f} s, {grown:.0f} MB more"
    )


def write_sparse_shard(folder: Path, units: int) -> None:
    """A shard of zeros in a sparse file; its checksums are wrong."""
    length = 300
    write_shard(
        folder,
        [Sample("a", np.append(np.zeros(length - 1), 500).astype(np.int16), 1.0, {})],
        [],
        preprocessing(),
    )
    os.truncate(folder / "audio.bin", 2 * length * (units // length))
    (folder / "audio.len").write_bytes(np.full(units // length, length, "<i8").tobytes())
    meta = json.loads((folder / "meta.json").read_text())
    meta |= {"num_samples": units // length, "num_audio_steps": length * (units // length)}
    (folder / "meta.json").write_text(json.dumps(meta))


def preprocessing() -> dict[str, object]:
    return {"vocab_size": VOCABULARY, "eos_token": 500, "pad_token": 501, "collapsed": True}


def resident_megabytes() -> float:
    """Private memory of this process in MB; mapped files belong to the page cache."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def markov_windows(folder: Path, context: int) -> Windows:
    """Units of a Markov chain: each is followed by one of eight, with unequal probabilities."""
    rng = np.random.default_rng(0)
    after = np.stack([rng.permutation(500) for _ in range(8)])
    choice = rng.choice(8, 2_000_000, p=0.5 ** np.arange(1, 9) / (1 - 0.5**8))
    units = np.zeros(len(choice), np.int16)
    for place in range(1, len(units)):
        units[place] = after[choice[place], units[place - 1]]
    sample = Sample("a", np.append(units, 500).astype(np.int16), 1.0, {})
    write_shard(folder / f"{context}" / "shard", [sample], [], preprocessing())
    return Windows(open_shards(folder / f"{context}"), context)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--losses", type=int, metavar="STEPS")
    parser.add_argument("--start", type=float, metavar="TOKENS")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with TemporaryDirectory() as scratch:
        if chosen.start:
            measure_start(Path(scratch), int(chosen.start))
            return
        for size in chosen.sizes:
            windows = markov_windows(Path(scratch), SIZES[size]["context"])
            if chosen.losses:
                compare_losses(size, windows, chosen.losses)
            else:
                measure_speed(size, windows, chosen.rounds)
                measure_waiting(size, windows, 20)


main()
