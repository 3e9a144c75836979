"""Formatting of numbers and names, on the axes and in the text."""

from __future__ import annotations

import math
from collections.abc import Sequence

TASKS = {
    "lexical": "Lexical (word or non-word)",
    "minimal_pairs": "Minimal pairs (grammar)",
    "sstorycloze": "sStoryCloze (cause and time)",
    "tstorycloze": "tStoryCloze (topic)",
    "sblimp": "sBLIMP",
}
LAW = "L(N, D) = E + A/Nᵅ + B/Dᵝ"
PARTS = {
    "envelope": "The envelope",
    "single_epoch": "The single-epoch law",
    "repeated": "The law of repeated data",
    "downstream": "The downstream laws",
}
CONDITIONS = {"seen": "training voice", "unseen": "new voices"}

_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def quantity(value: float | None) -> str:
    """Parameters or tokens to three digits: 812 k, 1.50 M, 10.9 B."""
    if value is None:
        return "–"
    for step, letter in _STEPS:
        if abs(value) >= 0.9995 * step:
            return f"{digits(value / step)} {letter}"
    return f"{value:,.0f}"


def power(value: float | None) -> str:
    """Compute, as the command line takes it: 1e13, 2.5e13."""
    if value is None:
        return "–"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def tick(value: float) -> str:
    """A round number without the zeros that say how exact a measurement is: 2, 1.5, 300."""
    return f"{value:.4g}"


def quantity_tick(value: float) -> str:
    """A round count: 300 k, 1 M."""
    number, _, unit = quantity(value).partition(" ")
    return f"{tick(float(number))} {unit}".strip()


def digits(value: float | None, significant: int = 3) -> str:
    """A number to so many significant digits, without an exponent where that reads well."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = int(f"{value:.{significant - 1}e}".partition("e")[2])  # after rounding: 999.9 is 1.00e+03
    if not -4 <= magnitude < 6:
        return f"{value:.{significant - 1}e}"
    return f"{value:,.{max(0, significant - 1 - magnitude)}f}"


def loss(value: float | None) -> str:
    """A loss to four decimals."""
    return "–" if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """An accuracy as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def bounds(interval: Sequence[float | None] | None) -> str:
    """`[low, high]`, nothing when no interval is known, and ∞ for an end that the data leave open."""
    if interval is None:
        return ""
    low, high = interval
    return f"[{'0' if low is None else digits(low)}, {'∞' if high is None else digits(high)}]"


def estimate(value: float | None, interval: Sequence[float | None] | None) -> str:
    """A fitted number with its interval, and a word where there is none."""
    return f"{digits(value)} {bounds(interval) or '(no interval)'}"


def duration(seconds: float) -> str:
    """43 s, 4 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def task(name: str) -> str:
    """The title of a task; a phenomenon loses its prefix."""
    return TASKS.get(name) or name.rpartition(".")[2].replace("_", " ").replace("npi", "NPI")


def short_task(name: str) -> str:
    """The title of a task without its explanation."""
    return task(name).partition(" (")[0]


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
