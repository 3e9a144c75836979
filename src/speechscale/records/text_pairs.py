"""Pairs of texts of which one is known to be the better, as text models are scored on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextPair:
    """A correct and a wrong text, both after the same prompt where there is one."""

    group_id: str  # the item; intervals resample whole groups
    pair_id: str  # unique within the benchmark
    phenomenon: str  # macro averages are taken over phenomena
    correct: str
    wrong: str
    prompt: str = ""
    frequency: float | None = None  # of the word in LibriSpeech; 0: not in its vocabulary; None: not stated


@dataclass(frozen=True)
class TextBenchmark:
    """The pairs of a benchmark in the order of its files, with remarks about how it differs from the official set."""

    pairs: tuple[TextPair, ...]
    notes: tuple[str, ...] = ()
