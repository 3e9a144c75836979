"""Training of the Pythia suite: tokens seen by a revision, and revisions with known faults."""

from __future__ import annotations

import re

# Biderman et al. 2023, section 2.2: 1024 sequences of 2048 tokens per update for every size, 143,000 updates. (The
# first release, with names in -v0, used two batch sizes; it is not supported here.)
TOKENS_PER_STEP = 1024 * 2048
LAST_STEP = 143_000
# The deduplicated Pile, which the models named -deduped read one and a half times. The other models read less than
# one epoch of the Pile.
DEDUPED_TOKENS = 207_000_000_000

_NAME = re.compile(
    r"EleutherAI/pythia-(?P<size>14m|31m|70m|160m|410m|1b|1\.4b|2\.8b|6\.9b|12b)"
    r"(?P<deduped>-deduped)?(?P<seed>-(data-|weight-)?seed\d+)?",
    re.IGNORECASE,
)
# Steps whose branch on the hub holds weights of the last step, in whole or in part: issues 205 and 206 of
# github.com/EleutherAI/pythia, both of August 2026.
_STEPS_WITH_FINAL_WEIGHTS = {
    "2.8b": {*range(65_001), 70_000, 80_000, 90_000, 100_000, 103_000, 110_000, 120_000, 130_000, 140_000},
    "12b": {50_000, 58_000},
}
_STEP = re.compile(r"step(\d+)")


def training_steps(model: str, revision: str | None) -> int | None:
    """Number of updates of a revision of a Pythia model; None for other models and for unknown revisions."""
    if not _NAME.fullmatch(model):
        return None
    if revision in (None, "main"):
        return LAST_STEP
    step = _STEP.fullmatch(revision or "")
    return int(step[1]) if step and int(step[1]) <= LAST_STEP else None


def unique_corpus_tokens(model: str) -> int | None:
    """Tokens of the training corpus of a Pythia model; None if the model read none of them twice."""
    name = _NAME.fullmatch(model)
    return DEDUPED_TOKENS if name and name["deduped"] else None


def checkpoint_warning(model: str, revision: str | None) -> str | None:
    """Why a revision may hold the weights of another step; None if no such report exists."""
    name, steps = _NAME.fullmatch(model), training_steps(model, revision)
    if name is None or name["deduped"] or name["seed"]:
        return None
    if steps not in _STEPS_WITH_FINAL_WEIGHTS.get(name["size"].lower(), ()):
        return None
    return (
        f"the branch {revision} of {model} was found to hold weights of the last step (issues 205 and 206 of "
        "github.com/EleutherAI/pythia): compare its weights with those of main before you use this score"
    )
