"""Published zero-shot scores, each with its convention as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

_STUDY = "Cuervo & Marxer 2024, Table 3"
_TWIST = "as quoted there; later papers give these StoryCloze scores, the benchmark's own page lower ones"


@dataclass(frozen=True)
class ReportedConvention:
    """The convention of a published number; "unknown" where no source states it."""

    nll: str = "unknown"  # over the units scored
    before_first: str = "unknown"
    closing: str = "unknown"  # whether the closing token is scored
    ties: str = "unknown"
    sblimp_mean_over: str = "unknown"  # phenomena (macro), items or pairs (micro)


@dataclass(frozen=True)
class PublishedScore:
    """Accuracies of one system in percent; None where not reported."""

    system: str
    kind: str
    params: str
    tokens: str
    sblimp: float | None
    tstorycloze: float | None
    sstorycloze: float | None
    convention: ReportedConvention
    source: str


_UNKNOWN = ReportedConvention()
_NONE = "-"  # humans have no likelihoods
# A ZeroSpeech submission may hold any score; ties and means are those of its evaluation (tasks/lm/syntactic.py).
_ZEROSPEECH = ReportedConvention(ties="half in sBLIMP", sblimp_mean_over="items")
_AS_ZEROSPEECH = ReportedConvention(ties="half in sBLIMP, presumably", sblimp_mean_over="items, presumably")
# The released evaluate.py and model.py.
_OF_STUDY = ReportedConvention("mean", "EOS", "not scored", "half (StoryCloze lost)", "phenomena")
# slamkit's template `<S> $0 <S>` and the defaults of its metric.
_SLAMKIT = ReportedConvention("mean", "<S>", "scored", "half", "pairs")
# Normalised by length, text logits not masked: facebookresearch/spiritlm issue 14.
_SPIRIT = ReportedConvention("mean")

_ROWS = (
    ("GSLM", "speech only", "100M", "", 54.2, 66.6, 53.3, _ZEROSPEECH, _STUDY),
    ("AudioLM", "speech only", "150M", "", 64.7, None, None, _ZEROSPEECH, _STUDY),
    ("TWIST cold 1.3B", "speech only", "1.3B", "10.8B", 56.5, None, None, _AS_ZEROSPEECH, _STUDY),
    ("Spirit LM speech 7B", "speech only", "7B", "100B", 58.0, 72.9, 54.8, _SPIRIT, _STUDY),
    ("Cuervo & Marxer", "speech only", "823M", "82B", 61.3, 78.0, 56.7, _OF_STUDY, _STUDY),
    (
        "Cuervo & Marxer",
        "speech only",
        "823M",
        "82B",
        58.36,
        None,
        None,
        replace(_OF_STUDY, sblimp_mean_over="items"),
        "RESULTS.md of its release",
    ),
    ("TWIST 1.3B", "from text", "1.3B", "10.8B", 57.1, 70.6, 52.4, _AS_ZEROSPEECH, _TWIST),
    ("TWIST 7B", "from text", "7B", "36B", 59.0, 74.1, 55.1, _AS_ZEROSPEECH, _TWIST),
    ("TWIST 13B", "from text", "13B", "36B", 59.2, 76.4, 55.4, _AS_ZEROSPEECH, _TWIST),
    (
        "SLAM",
        "from text",
        "0.5B",
        "",
        61.1,
        84.2,
        61.3,
        _SLAMKIT,
        "Maimon et al. 2025, SIMS, Table 3",
    ),
    ("SIMS 7B", "from text", "7B", "15B", 59.8, 88.3, 66.7, _SLAMKIT, "Maimon et al. 2025, Table 3"),
    ("Spirit LM 7B", "speech and text", "7B", "100B", 58.3, 82.9, 61.0, _SPIRIT, _STUDY),
    ("Pythia 6.9B", "text", "6.9B", "300B", 80.0, 97.5, 76.2, _UNKNOWN, _STUDY),
    ("Human", "", "", "", None, 90.2, 79.9, ReportedConvention(*5 * [_NONE]), _STUDY),
)
PUBLISHED_SCORES = tuple(PublishedScore(*row) for row in _ROWS)
