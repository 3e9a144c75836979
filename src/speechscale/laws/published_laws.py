"""Published laws, for planning without a table of runs; none was published with intervals.

Sources: speech and speech-unigram: Cuervo and Marxer 2024 (arXiv 2404.00685); text: Muennighoff et al. 2023
(arXiv 2305.16264), rounded as quoted there; exponents of scores, and the scores of the best speech model: Cuervo and
Marxer 2024. Ranges: the ladder that its
authors released. Tokens per second: 10.89 B units, or 6.31 B unigram tokens, of 160,000 hours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from speechscale.errors import UserError
from speechscale.records.flops import training_flops


@dataclass(frozen=True)
class PublishedScore:
    """The best score for a compute, Q ~ C^gamma, and a model that it is anchored at where one was published.

    Attributes:
        gamma: the exponent. The power law ignores saturation.
        anchor: params, tokens and accuracy of a model.
    """

    gamma: float
    anchor: tuple[float, float, float] | None = None

    def flops_for(self, accuracy: float) -> float:
        """FLOPs that reach an accuracy in (0, 1).

        Raises:
            UserError: no anchor was published.
        """
        if self.anchor is None:
            raise UserError(
                f"the publication has the exponent of this score alone ({self.gamma:g}), and no score to start from; "
                "fit runs with this score."
            )
        params, tokens, reached = self.anchor
        return float(training_flops(params, tokens) * (accuracy / reached) ** (1 / self.gamma))


@dataclass(frozen=True)
class PublishedLaw:
    """A law from a publication: its parameters, the rates of its repeated-data law, and the range of its runs."""

    source: str
    params: dict[str, float]
    rates: dict[str, float] | None
    params_range: tuple[float, float] | None
    tokens_range: tuple[float, float] | None
    tokens_per_second: float | None
    scores: dict[str, PublishedScore] = field(default_factory=dict)


_BEST = (823e6, 82e9)  # params and tokens of the best model of Cuervo and Marxer 2024
_SPEECH = "Cuervo and Marxer 2024, arXiv 2404.00685"
_HOURS = 160_000

PUBLISHED_LAWS = {
    "text": PublishedLaw(
        "Muennighoff et al. 2023, arXiv 2305.16264",
        {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.35},
        {"R_D": 15.4, "R_N": 5.31},
        None,
        None,
        None,
        {
            "blimp": PublishedScore(0.066),
            "tstorycloze": PublishedScore(0.039),
            "sstorycloze": PublishedScore(0.046),
        },
    ),
    "speech": PublishedLaw(
        _SPEECH,
        {"E": 1.73, "A": 13.9, "B": 39.8, "alpha": 0.25, "beta": 0.24},
        {"R_D": 25.0, "R_N": 31.0},
        (20.4e6, 823e6),
        (131_200 * 5_050, 1_246_400 * 66_050),
        10.89e9 / (_HOURS * 3600),
        {
            "sblimp": PublishedScore(0.021, (*_BEST, 0.613)),
            "tstorycloze": PublishedScore(0.025, (*_BEST, 0.780)),
            "sstorycloze": PublishedScore(0.017, (*_BEST, 0.567)),
        },
    ),
    "speech-unigram": PublishedLaw(
        _SPEECH,
        {"E": 1.42, "A": 3.85, "B": 8.90, "alpha": 0.15, "beta": 0.16},
        None,
        (20.4e6, 823e6),
        None,
        6.31e9 / (_HOURS * 3600),
    ),
}
