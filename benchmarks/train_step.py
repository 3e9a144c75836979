"""How fast a step is, on one core: tokens a second of the nano sizes, in our loop and in a plain float32 one.

The baseline, in the same run, is the same model stepped the plain way: float32, unfused AdamW.

    python benchmarks/train_step.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from speechscale.model.transformer import Transformer
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.study.ladder import ladder_runs
from speechscale.study.spec import read_study
from speechscale.tokens.batches import Windows
from speechscale.train.spec import RunSpec
from speechscale.train.trainer import Trainer

NANO = Path(__file__).parents[1] / "studies" / "nano.toml"
ROUNDS = 12
VOCABULARY = 102


def random_windows(folder: Path, context: int) -> Windows:
    units = np.random.default_rng(0).integers(0, 100, 100_000)
    sample = Sample("a", np.append(units, 100).astype(np.int16), 1.0, {})
    made = {"vocab_size": VOCABULARY, "eos_token": 100, "pad_token": 101}
    write_shard(folder / f"shard-{context}", [sample], [], made)
    return Windows(open_shards(folder), context)


def plain_step(spec: RunSpec, windows: Windows) -> Callable[[int], None]:
    model = Transformer(spec.shape(VOCABULARY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), foreach=False)

    def step(number: int) -> None:
        batch = torch.from_numpy(windows.batch(0, number, spec.batch))
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    torch.set_num_threads(1)
    study = read_study(NANO)
    sizes = {run.dim: run for run in ladder_runs(study)}
    with TemporaryDirectory() as folder:
        windows = random_windows(Path(folder), study.ladder.context)
        for dim, spec in sorted(sizes.items()):
            ours, plain = Trainer(spec, VOCABULARY, windows).update, plain_step(spec, windows)
            spent: dict[str, list[float]] = {"ours": [], "plain": []}
            for number in range(ROUNDS):
                for name, step in (("ours", ours), ("plain", plain)):
                    started = perf_counter()
                    step(number)
                    spent[name].append(perf_counter() - started)
            tokens = spec.batch * spec.context
            shape = spec.shape(VOCABULARY)
            rate = tokens / median(spent["ours"])
            ratio = median(b / a for a, b in zip(spent["ours"], spent["plain"], strict=True))
            print(
                f"dim {dim:>4}  N {shape.params:>9,}  {rate:>9,.0f} tokens/s  "
                f"{shape.flops_exact(1) * rate / 1e9:6.1f} GFLOP/s  {ratio:.2f} x the plain loop"
            )


main()
