"""Published laws, for planning without a table of runs; none was published with intervals.

Sources: speech and speech-unigram: Cuervo and Marxer 2024 (arXiv 2404.00685); text: Muennighoff et al. 2023
(arXiv 2305.16264), rounded as quoted there; downstream exponents: Cuervo and Marxer 2024. Ranges: the ladder that its
authors released. Tokens per second: 10.89 B units, or 6.31 B unigram tokens, of 160,000 hours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedLaw:
    """A law from a publication: its parameters, the rates of its repeated-data law, and the range of its runs."""

    source: str
    params: dict[str, float]
    rates: dict[str, float] | None
    gammas: dict[str, float]  # of Q ~ C^gamma, by benchmark
    params_range: tuple[float, float] | None
    tokens_range: tuple[float, float] | None
    tokens_per_second: float | None


_SPEECH = "Cuervo and Marxer 2024, arXiv 2404.00685"
_HOURS = 160_000

PUBLISHED_LAWS = {
    "text": PublishedLaw(
        "Muennighoff et al. 2023, arXiv 2305.16264",
        {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.35},
        {"R_D": 15.4, "R_N": 5.31},
        {"blimp": 0.066, "tstorycloze": 0.039, "sstorycloze": 0.046},
        None,
        None,
        None,
    ),
    "speech": PublishedLaw(
        _SPEECH,
        {"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24},
        {"R_D": 25.0, "R_N": 31.0},
        {"blimp": 0.021, "tstorycloze": 0.025, "sstorycloze": 0.017},
        (20.4e6, 823e6),
        (131_200 * 5_050, 1_246_400 * 66_050),
        10.89e9 / (_HOURS * 3600),
    ),
    "speech-unigram": PublishedLaw(
        _SPEECH,
        {"E": 1.42, "A": 3.85, "B": 8.90, "alpha": 0.15, "beta": 0.16},
        None,
        {},
        (20.4e6, 823e6),
        None,
        6.31e9 / (_HOURS * 3600),
    ),
}
