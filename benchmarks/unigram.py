"""Speed of unigram tokenization on one core, in units per second from arrays of units to arrays of tokens.

Baseline, in the same run: SentencePiece as it is usually called, one utterance at a time, from existing strings to
lists of ids. Also measured: a shard of units to a sealed shard of tokens, files included, and the time of training.
The data are synthetic: 8,000 words of 2 to 8 of 500 units, drawn by Zipf's law, with one unit in ten replaced.

    OMP_NUM_THREADS=1 python benchmarks/unigram.py [--utterances 7000]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from sentencepiece import SentencePieceProcessor

from speechscale.records.shards import Sample, vocabulary_of, write_shard
from speechscale.tokens.unigram import (
    MODEL,
    UnigramSpec,
    UnigramTrainingTask,
    load_unigram,
    plan_token_shards,
    train_unigram_task,
    write_token_shard,
)

CLUSTERS, WORDS, ROUNDS = 500, 8000, 7


def speech(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    words = [rng.integers(0, CLUSTERS, rng.integers(2, 9)) for _ in range(WORDS)]
    frequency = 1 / np.arange(1, WORDS + 1)
    utterances = []
    for _ in range(count):
        units = np.concatenate([words[i] for i in rng.choice(WORDS, 60, p=frequency / frequency.sum())])
        replaced = rng.random(len(units)) < 0.1
        units = np.where(replaced, rng.integers(0, CLUSTERS, len(units)), units)
        utterances.append(units[np.flatnonzero(np.diff(units, prepend=-1))].astype(np.int16))
    return utterances


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=7000)
    utterances = speech(parser.parse_args().utterances)
    units = sum(map(len, utterances))
    preprocessing = vocabulary_of(CLUSTERS)
    samples = [
        Sample(f"u{i}", np.append(some, CLUSTERS).astype(np.int16), 12.0, {}, np.append(some * 0 + 1, 0))
        for i, some in enumerate(utterances)
    ]
    with TemporaryDirectory() as name:
        root = Path(name)
        write_shard(root / "units" / "shard-00000", samples, [], preprocessing)
        started = perf_counter()
        sample_units = train_unigram_task(
            UnigramTrainingTask(root / "units", UnigramSpec(units=units // 2), root / "unigram")
        )
        training = perf_counter() - started
        unigram = load_unigram(root / "unigram")
        plain = SentencePieceProcessor(model_file=str(root / "unigram" / MODEL))
        texts = ["".join(chr(0x4E00 + unit) for unit in some.tolist()) for some in utterances]

        def ours() -> list[np.ndarray]:
            return unigram.encode(utterances)

        def one_by_one() -> list[list[int]]:
            return [plain.encode(text) for text in texts]

        spent: dict[str, list[float]] = {"ours": [], "one by one": [], "shard": []}
        for number in range(ROUNDS):
            for method, call in (("ours", ours), ("one by one", one_by_one)):
                started = perf_counter()
                tokens = call()
                spent[method].append(perf_counter() - started)
            (task,) = plan_token_shards(root / "units", root / "unigram", root / f"tokens-{number}")
            started = perf_counter()
            write_token_shard(task)
            spent["shard"].append(perf_counter() - started)
        pairs = zip(ours(), one_by_one(), strict=True)
        assert all(np.array_equal(our + 1, their) for our, their in pairs)  # our ids begin at 0
    print(
        f"trained on {sample_units / 1e6:.1f} M units in {training:.0f} s; "
        f"{units / sum(map(len, tokens)):.2f} units/token"
    )
    for method, seconds in spent.items():
        print(f"{method:>10}: {units / median(seconds) / 1e6:.1f} M units/s per core")
    ratio = median(a / b for a, b in zip(spent["ours"], spent["one by one"], strict=True))
    print(f"ours / one by one time: {ratio:.2f}")


main()
